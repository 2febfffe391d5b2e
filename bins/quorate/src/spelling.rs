use std::ffi::OsString;

/// Other names of options, as they were spelt in "mini-dynamo", a small store in Go whose scripts
/// go on working.
const ALIASES: &[(&str, &str)] = &[
    ("snap-interval", "snapshot-interval"),
    ("ae", "anti-entropy"),
    ("ae-interval", "anti-entropy-interval"),
    ("ae-max", "anti-entropy-max"),
];

/// Options that may be written with one dash or with underscores.
const NAMES: &[&str] = &[
    "id",
    "config",
    "data-dir",
    "listen",
    "threads",
    "snapshot-interval",
    "anti-entropy",
    "anti-entropy-interval",
    "anti-entropy-max",
    "sync",
    "hint-ttl",
    "timeout",
    "allowed-hosts",
    "nodes",
    "base-port",
    "insecure",
];

/// Respells the options of `serve` and `cluster`: `-data_dir=x` becomes `--data-dir=x`. All else,
/// and everything behind a bare `--`, stays as it is.
pub(crate) fn normalise(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<_> = args.into_iter().collect();
    let command = args.iter().skip(1).find(|arg| *arg == "serve" || *arg == "cluster");
    let first = args.iter().skip(1).find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    if command.is_none() || command != first {
        return args;
    }
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let respelt = |(i, arg): (usize, OsString)| match arg.to_str().and_then(respell) {
        Some(respelt) if i < end => respelt.into(),
        _ => arg,
    };
    args.into_iter().enumerate().map(respelt).collect()
}

/// `arg` as clap knows it, if it is an option that may be spelt in more than one way.
fn respell(arg: &str) -> Option<String> {
    let bare = arg.strip_prefix("--").or(arg.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    let name = name.replace('_', "-");
    let name =
        ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |pair| pair.1);
    NAMES.contains(&name).then(|| match value {
        Some(value) => format!("--{name}={value}"),
        None => format!("--{name}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn normalised(line: &str) -> String {
        let args = line.split(' ').map(OsString::from);
        normalise(args).join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn older_spellings_are_understood() {
        let old = "quorate serve -id=n1 -config nodes.json --data_dir=d -snap_interval 3s -ae=false \
                   --ae_interval=1500ms -ae_max 200";
        let new = "quorate serve --id=n1 --config nodes.json --data-dir=d --snapshot-interval 3s \
                   --anti-entropy=false --anti-entropy-interval=1500ms --anti-entropy-max 200";
        assert_eq!(normalised(old), new);
        assert_eq!(normalised(new), new, "and the present ones stay");
    }

    #[test]
    fn keys_values_and_unknown_options_stay_as_they_are() {
        for line in [
            "quorate put key -id=5",
            "quorate get -id",
            "quorate put serve -id=5",
            "quorate --log debug put k -ae",
            "quorate serve -x --data_dirs=d -- -id",
        ] {
            assert_eq!(normalised(line), line);
        }
    }

    #[test]
    fn a_global_option_may_stand_before_the_command() {
        assert_eq!(
            normalised("quorate --log=warn serve -id n1"),
            "quorate --log=warn serve --id n1"
        );
    }

    #[test]
    fn every_option_of_the_two_commands_is_listed() {
        let cli = crate::args::Cli::command();
        let commands = ["serve", "cluster"].map(|name| cli.find_subcommand(name).unwrap());
        for arg in commands.iter().flat_map(|command| command.get_arguments()) {
            let Some(long) = arg.get_long().filter(|_| !arg.is_hide_set()) else { continue };
            assert!(NAMES.contains(&long) || ["help", "cluster-secret"].contains(&long), "{long}");
        }
    }
}
