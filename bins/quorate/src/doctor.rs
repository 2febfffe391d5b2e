use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use quorate_storage::{
    RealFs,
    doctor::{Diagnosis, Problem, ReadOnlyFs, Salvaged, examine, salvage},
    fs::Fs,
    lock_dir_unchanged,
};
use serde_json::{Value, json};

use crate::{BAD_USAGE, args::DoctorArgs};

/// What was found, and what was salvaged to where.
struct Report {
    data_dir: PathBuf,
    found: Diagnosis,
    repaired: Option<(PathBuf, Salvaged)>,
}

/// Looks at a stopped node's files. Not being able to look is not the same as finding something.
pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let printed = report(args).and_then(|report| {
        let sound = report.found.problems.is_empty();
        let text = if args.json { format!("{:#}\n", report.to_json()) } else { report.to_text() };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("stdout")?;
        Ok(sound)
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

fn report(args: &DoctorArgs) -> Result<Report> {
    let data_dir = args.data_dir.clone();
    let new_dir = args.repair.clone().map(|named| named.unwrap_or_else(|| repaired(&data_dir)));
    if let Some(new_dir) = &new_dir {
        check_new(&data_dir, new_dir)?;
    }
    let _lock = lock_dir_unchanged(&data_dir)?;
    let files: Arc<dyn Fs> = Arc::new(ReadOnlyFs);
    let found = examine(&files, &data_dir, quorate_ring::token)?;
    let repaired = match new_dir {
        None => None,
        Some(new_dir) => {
            let real: Arc<dyn Fs> = Arc::new(RealFs);
            let token = quorate_ring::token;
            let salvaged = salvage(&files, &data_dir, &real, &new_dir, token, wall_ms())
                .with_context(|| format!("cannot salvage to {}", new_dir.display()))?;
            Some((new_dir, salvaged))
        }
    };
    Ok(Report { data_dir, found, repaired })
}

fn repaired(data_dir: &Path) -> PathBuf {
    // Without the slash that it may end with.
    let mut name: OsString = data_dir.components().as_path().into();
    name.push(".repaired");
    name.into()
}

pub(crate) fn check_new(data_dir: &Path, new_dir: &Path) -> Result<()> {
    let is_empty = match fs::read_dir(new_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("{}", new_dir.display())),
    };
    ensure!(is_empty, "{} is not empty; name a folder that is new or empty", new_dir.display());
    let old = data_dir.canonicalize().with_context(|| format!("{}", data_dir.display()))?;
    let existing = new_dir.ancestors().find_map(|dir| {
        (if dir.as_os_str().is_empty() { Path::new(".") } else { dir }).canonicalize().ok()
    });
    let is_inside = existing.is_some_and(|dir| dir.starts_with(&old));
    ensure!(!is_inside, "{} lies in the folder that must not be changed", new_dir.display());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the new life of a node begins now")]
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    fn to_json(&self) -> Value {
        let Diagnosis { meta, files, records, keys, hints, problems } = &self.found;
        json!({
            "data_dir": text(&self.data_dir),
            "node": meta.map(|meta| meta.node.as_str().to_owned()),
            "cluster": meta.map(|meta| format!("{:016x}", meta.cluster)),
            "files": files,
            "records": records,
            "keys": keys,
            "hints": hints,
            "problems": problems.iter().map(problem_json).collect::<Vec<_>>(),
            "repaired": self.repaired.as_ref().map(|(dir, salvaged)| json!({
                "dir": text(dir),
                "records": salvaged.records,
                "keys": salvaged.keys,
                "hints": salvaged.hints,
                "can_start": salvaged.meta.is_some(),
            })),
        })
    }

    fn to_text(&self) -> String {
        let Diagnosis { meta, files, records, keys, hints, problems } = &self.found;
        let whose = meta.map_or("unknown node".to_owned(), |meta| format!("node {}", meta.node));
        let mut out = format!(
            "{}: {whose}, {files} files, {records} records in the log, {keys} keys, {hints} hints\n",
            self.data_dir.display()
        );
        for problem in problems {
            out += &problem_text(problem);
        }
        out += &match problems.len() {
            0 => "No problems found.\n".to_owned(),
            1 => "\n1 problem found.\n".to_owned(),
            count => format!("\n{count} problems found.\n"),
        };
        if let Some((dir, salvaged)) = &self.repaired {
            let Salvaged { records, keys, hints, meta } = salvaged;
            out += &format!(
                "Salvaged {records} records of {keys} keys and {hints} hints to {}.\n",
                dir.display()
            );
            out += if meta.is_some() {
                "Start the node with that folder as its --data-dir. What could not be read is for the other \
                 replicas to bring again; until then treat the node as one whose disk was lost.\n"
            } else {
                "No node starts on it until there is a file `meta`, which could not be read: put a copy of it there.\n"
            };
        }
        out
    }
}

fn problem_text(problem: &Problem) -> String {
    let Problem { file, offset, bytes, what, meaning, advice } = problem;
    let place = match (offset, bytes) {
        (None, _) => String::new(),
        (Some(offset), None) => format!(" at byte {offset}"),
        (Some(offset), Some(bytes)) => format!(" at byte {offset}, {bytes} bytes"),
    };
    format!("\n{}{place}\n  {what}\n  meaning: {meaning}\n  to do: {advice}\n", file.display())
}

fn problem_json(problem: &Problem) -> Value {
    let Problem { file, offset, bytes, what, meaning, advice } = problem;
    json!({
        "file": text(file), "offset": offset, "bytes": bytes,
        "what": what, "meaning": meaning, "advice": advice,
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
