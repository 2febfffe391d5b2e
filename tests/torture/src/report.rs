//! What came of a run, for people.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Kind;

/// Replicas must be equal so soon after the last fault.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

/// A node that lost data must have it again so soon.
pub(crate) const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// Of the requests that are owed a success so many must be one, in percent.
const LEAST_AVAILABLE: f64 = 99.0;

/// How many broken promises and failed requests a report shows; the file has all of them.
const SHOWN: usize = 10;

/// Requests to nodes that were up and reached a majority and enough nodes for their quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    /// How many there were.
    pub owed: u64,
    /// How many of them succeeded.
    pub given: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What befell the nodes.
    pub kind: Kind,
    /// What was drawn.
    pub seed: u64,
    /// For how long there were faults.
    pub time: Duration,
    /// How many of each.
    pub counts: BTreeMap<&'static str, u64>,
    /// How requests ended.
    pub told: BTreeMap<&'static str, u64>,
    /// How many of those succeeded that were to.
    pub available: Availability,
    /// Those that were to succeed and did not, with the reasons.
    pub missed: Vec<String>,
    /// How long after the last fault all replicas were equal; `None` if they never were.
    pub equal_after: Option<Duration>,
    /// How long after the last fault no hints were left; `None` if some stayed.
    pub hintless_after: Option<Duration>,
    /// The longest that a node which had lost data needed to have it again and to count, while others
    /// went on; `None` if none did.
    pub longest_loss: Option<Duration>,
    /// The promises that were broken.
    pub broken: Vec<String>,
    /// All that clients asked of the keys that those are about, and who holds what.
    pub tables: Vec<String>,
    /// The faults, by microseconds since the start.
    pub log: Vec<(u64, String)>,
    /// What each node wrote.
    pub node_logs: Vec<(String, String)>,
}

impl Availability {
    /// In percent.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody makes 2^53 requests")]
    pub fn percent(self) -> f64 {
        if self.owed == 0 { 100.0 } else { 100.0 * self.given as f64 / self.owed as f64 }
    }
}

impl Report {
    /// Whether every promise was kept and the replicas became equal in the end.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.broken.is_empty() && self.equal_after.is_some()
    }

    /// Whether besides that all figures are within their bars.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.is_right() && self.is_available() && self.is_equal_in_time() && self.is_whole_in_time()
    }

    /// How often which promise was broken.
    fn breaches(&self) -> BTreeMap<&str, u64> {
        let mut breaches = BTreeMap::new();
        for what in &self.broken {
            let name = what.strip_prefix('[').and_then(|rest| rest.split(']').next());
            *breaches.entry(name.unwrap_or("else")).or_default() += 1;
        }
        breaches
    }

    fn is_available(&self) -> bool {
        self.available.percent() >= LEAST_AVAILABLE
    }

    fn is_equal_in_time(&self) -> bool {
        self.equal_after.is_some_and(|after| after <= EQUAL_WITHIN)
    }

    fn is_whole_in_time(&self) -> bool {
        self.longest_loss.is_none_or(|took| took <= WHOLE_WITHIN)
    }

    /// Writes all there is to know to files in `folder`; which one to begin with.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let name = format!("{}-{}", self.kind, self.seed);
        for (node, log) in &self.node_logs {
            fs::write(folder.join(format!("{name}-{node}.log")), log)?;
        }
        let mut text = format!("{self}\n");
        text.extend(self.broken.iter().map(|what| format!("{what}\n")));
        text.extend(self.tables.iter().map(|table| format!("\n{table}")));
        text += "\nfaults\n";
        text.extend(self.log.iter().map(|(at_us, what)| format!("{at_us:>12} µs  {what}\n")));
        text += "\nfailed, though owed a success\n";
        text.extend(self.missed.iter().map(|what| format!("{what}\n")));
        let path = folder.join(format!("{name}.txt"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&str, u64>| {
            let each = counts.iter().map(|(name, count)| format!("{count} {name}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let verdict = |ok| if ok { "ok" } else { "MISSED" };
        let after = |after: Option<Duration>| match after {
            Some(after) => format!("{:.1} s after the last fault", after.as_secs_f64()),
            None => "never".to_owned(),
        };
        writeln!(f, "{}: {} s, seed {}", self.kind, self.time.as_secs(), self.seed)?;
        writeln!(f, "  faults      {}", list(&self.counts))?;
        writeln!(f, "  requests    {}", list(&self.told))?;
        let Availability { owed, .. } = self.available;
        writeln!(
            f,
            "  available   {:.2} % of the {owed} that were owed a success (>= {LEAST_AVAILABLE} %)  {}",
            self.available.percent(),
            verdict(self.is_available())
        )?;
        writeln!(
            f,
            "  equal       {} (<= {} s)  {}",
            after(self.equal_after),
            EQUAL_WITHIN.as_secs(),
            verdict(self.is_equal_in_time())
        )?;
        if let Some(took) = self.longest_loss {
            writeln!(
                f,
                "  whole again {:.1} s after a loss, at the longest (<= {} s)  {}",
                took.as_secs_f64(),
                WHOLE_WITHIN.as_secs(),
                verdict(self.is_whole_in_time())
            )?;
        }
        writeln!(f, "  hints gone  {}", after(self.hintless_after))?;
        match self.broken.len() {
            0 => write!(f, "  promises    kept")?,
            count => write!(f, "  promises    BROKEN {count} times: {}", list(&self.breaches()))?,
        }
        for what in self.broken.iter().take(SHOWN) {
            write!(f, "\n    {what}")?;
        }
        if !self.is_available() {
            for what in self.missed.iter().take(SHOWN) {
                write!(f, "\n    failed: {what}")?;
            }
        }
        Ok(())
    }
}
