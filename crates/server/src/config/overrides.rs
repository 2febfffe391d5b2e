use std::time::Duration;

use super::{
    Config, ConfigErrors, Problem, Secret, SyncPolicy,
    checks::{check_ae_interval, check_ae_max, check_host, check_secrets, check_timeout},
    load::INSECURE,
};

/// What a command line or the environment says in place of `nodes.json`; `None` leaves a field as
/// the file has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Time between snapshots; zero for none.
    pub snapshot_interval: Option<Duration>,
    /// Whether replicas are compared in the background.
    pub anti_entropy: Option<bool>,
    /// Time between two comparisons.
    pub anti_entropy_interval: Option<Duration>,
    /// Most records moved by one comparison.
    pub anti_entropy_max_per_tick: Option<usize>,
    /// What an acknowledged write has survived.
    pub sync: Option<SyncPolicy>,
    /// How long courtesy hints are kept; zero for none.
    pub hint_ttl: Option<Duration>,
    /// Deadline of a client's request that names none.
    pub timeout: Option<Duration>,
    /// Further names that a request's `Host` may have, besides those in the file.
    pub allowed_hosts: Vec<String>,
    /// The secret shared by all nodes, or two of them, separated by white space.
    pub cluster_secret: Option<Secret>,
    /// Allow addresses that others can reach although there is no secret.
    pub insecure: bool,
}

impl Overrides {
    pub(super) fn apply_to(&self, config: &mut Config) -> Result<(), ConfigErrors> {
        let mut checked = Checked::default();
        let interval =
            checked.take("--anti-entropy-interval", self.anti_entropy_interval, check_ae_interval);
        let max = checked.take("--anti-entropy-max", self.anti_entropy_max_per_tick, check_ae_max);
        let timeout = checked.take("--timeout", self.timeout, check_timeout);
        let secrets = checked.take("--cluster-secret", self.cluster_secret.as_ref(), check_secrets);
        let hosts: Vec<_> = self
            .allowed_hosts
            .iter()
            .filter_map(|host| checked.take("--allowed-hosts", Some(host.clone()), check_host))
            .collect();
        if !checked.problems.is_empty() {
            let source = "the command line".to_owned();
            return Err(ConfigErrors { source, problems: checked.problems });
        }

        if let Some(interval) = self.snapshot_interval {
            config.snapshot_interval = (!interval.is_zero()).then_some(interval);
        }
        if let Some(secrets) = secrets {
            config.cluster_secrets = secrets;
        }
        if self.insecure && config.cluster_secrets.is_empty() && config.tls.is_none() {
            config.insecure = true;
            config.warnings.push(INSECURE.to_owned());
        }
        config.anti_entropy = self.anti_entropy.unwrap_or(config.anti_entropy);
        config.anti_entropy_interval = interval.unwrap_or(config.anti_entropy_interval);
        config.anti_entropy_max_per_tick = max.unwrap_or(config.anti_entropy_max_per_tick);
        config.sync = self.sync.unwrap_or(config.sync);
        config.hint_ttl = self.hint_ttl.unwrap_or(config.hint_ttl);
        config.timeout = timeout.unwrap_or(config.timeout);
        config.allowed_hosts.extend(hosts);
        Ok(())
    }
}

#[derive(Default)]
struct Checked {
    problems: Vec<Problem>,
}

impl Checked {
    fn take<T, U>(
        &mut self,
        option: &str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        check(value?)
            .map_err(|what| {
                self.problems.push(Problem { field: option.to_owned(), place: None, what });
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse(r#"{"nodes": [{"id": "n1", "addr": "127.0.0.1:9001"}], "hint_ttl_s": 5}"#)
            .unwrap()
    }

    #[test]
    fn nothing_said_changes_nothing() {
        let mut changed = config();
        changed.apply(&Overrides::default()).unwrap();
        assert_eq!(changed, config());
    }

    #[test]
    fn what_is_said_wins() {
        let mut changed = config();
        let overrides = Overrides {
            snapshot_interval: Some(Duration::from_secs(3)),
            anti_entropy: Some(false),
            hint_ttl: Some(Duration::ZERO),
            sync: Some(SyncPolicy::Os),
            allowed_hosts: vec!["store.test".to_owned()],
            ..Overrides::default()
        };
        changed.apply(&overrides).unwrap();
        let expected = Config {
            snapshot_interval: Some(Duration::from_secs(3)),
            anti_entropy: false,
            hint_ttl: Duration::ZERO,
            sync: SyncPolicy::Os,
            allowed_hosts: vec!["store.test".to_owned()],
            ..config()
        };
        assert_eq!(changed, expected);
        changed.apply(&Overrides { snapshot_interval: Some(Duration::ZERO), ..overrides }).unwrap();
        assert_eq!(changed.snapshot_interval, None);
    }

    #[test]
    fn options_are_checked_like_fields_and_all_at_once() {
        let mut changed = config();
        let overrides = Overrides {
            anti_entropy: Some(false),
            anti_entropy_interval: Some(Duration::ZERO),
            anti_entropy_max_per_tick: Some(0),
            cluster_secret: Some(Secret::new("short")),
            ..Overrides::default()
        };
        let error = changed.apply(&overrides).unwrap_err();
        let fields: Vec<_> = error.problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["--anti-entropy-interval", "--anti-entropy-max", "--cluster-secret"]);
        assert!(!error.to_string().contains("short\""), "a secret is never shown: {error}");
        assert_eq!(changed, config());
    }

    #[test]
    fn a_secret_or_an_explicit_wish_opens_the_node_to_others() {
        let secret = |text: &str| Overrides {
            cluster_secret: Some(Secret::new(text)),
            ..Overrides::default()
        };
        let insecure = Overrides { insecure: true, ..Overrides::default() };
        let others = "10.0.0.1:9001".parse().unwrap();
        let mut changed = config();
        assert!(changed.check_addr(others).is_err());
        changed.apply(&insecure).unwrap();
        assert!(changed.insecure && changed.check_addr(others).is_ok());
        assert_eq!(changed.warnings, [INSECURE]);

        let mut changed = config();
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        changed.apply(&secret(&format!("{a} {b}"))).unwrap();
        assert_eq!(changed.cluster_secrets, [Secret::new(a), Secret::new(b)]);
        changed.apply(&insecure).unwrap();
        assert!(!changed.insecure && changed.check_addr(others).is_ok());
        assert!(changed.apply(&secret("")).is_err());
    }
}
