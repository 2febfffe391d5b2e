//! Whose data a folder holds: a small text file that is checked before anything else is opened.

use std::io;
use std::path::{Path, PathBuf};

use quorate_record::NodeId;

use crate::frame::checksum;
use crate::fs::{Fs, create_dir_durably, read_text, write_anew};

/// The version of the data folder that this code reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Whose data a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The node.
    pub node: NodeId,
    /// A fingerprint of what all nodes of the cluster must agree on.
    pub cluster: u64,
    /// Which of the node's lives this is. Drawn when the folder was created: a node that lost its data is another
    /// writer than before.
    pub incarnation: u64,
}

/// Why a data folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// It is another node's.
    #[error(
        "{dir} holds the data of node {found}, not of {wanted}; start {found} on it, or give {wanted} a folder of its own"
    )]
    OtherNode {
        /// The folder.
        dir: PathBuf,
        /// The node that it belongs to.
        found: NodeId,
        /// The node that was to run on it.
        wanted: NodeId,
    },
    /// It is from another cluster, or from a time when the cluster placed its keys in another way.
    #[error(
        "{dir} belongs to cluster {found:016x}, the configuration describes cluster {wanted:016x}; \
         restore the settings that it was created with, or start with an empty folder"
    )]
    OtherCluster {
        /// The folder.
        dir: PathBuf,
        /// The fingerprint in it.
        found: u64,
        /// The fingerprint of the configuration.
        wanted: u64,
    },
    /// Another version of this program wrote it.
    #[error(
        "{path} has format version {found}, this program reads and writes version {supported}; \
         use the program that wrote it, or start with an empty folder"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The only version that this program knows.
        supported: u32,
    },
    /// It is not what was written.
    #[error(
        "{path} is damaged; restore it, or remove the whole folder and let the other replicas fill it again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is data, but nothing says whose.
    #[error("{path} is missing although there is data; restore it, or remove the whole folder")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl Meta {
    /// Reads the file `meta` of the data folder `dir`, which must name the same node and cluster as `wanted`; the
    /// incarnation that it names is the one that counts. If the folder is new, it is created, and `wanted` is written.
    ///
    /// # Errors
    /// [`MetaError`]. Nothing has been changed then, except perhaps after [`MetaError::Io`].
    pub fn open(fs: &dyn Fs, dir: &Path, wanted: Meta) -> Result<Meta, MetaError> {
        let path = dir.join("meta");
        let failed = |source| MetaError::Io { path: path.clone(), source };
        create_dir_durably(fs, dir).map_err(failed)?;
        let Some(text) = read_text(fs, &path).map_err(failed)? else {
            if fs.list(&dir.join("log")).is_ok_and(|names| !names.is_empty()) {
                return Err(MetaError::Missing { path });
            }
            write_anew(fs, &path, &wanted.encode()).map_err(failed)?;
            return Ok(wanted);
        };
        let found = Meta::decode(&text).map_err(|bad| bad.at(path))?;
        let dir = || dir.to_path_buf();
        if found.node != wanted.node {
            return Err(MetaError::OtherNode {
                dir: dir(),
                found: found.node,
                wanted: wanted.node,
            });
        }
        if found.cluster != wanted.cluster {
            return Err(MetaError::OtherCluster {
                dir: dir(),
                found: found.cluster,
                wanted: wanted.cluster,
            });
        }
        Ok(found)
    }

    /// What the file `meta` of `dir` says; `None` if there is none.
    ///
    /// # Errors
    /// [`MetaError::Damaged`], [`MetaError::Version`], [`MetaError::Io`].
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Meta>, MetaError> {
        let path = dir.join("meta");
        let text = match read_text(fs, &path) {
            Ok(text) => text,
            Err(source) => return Err(MetaError::Io { path, source }),
        };
        text.map(|text| Meta::decode(&text).map_err(|bad| bad.at(path))).transpose()
    }

    /// Begins another life of the same node, at `wall_ms` if that is later than the last one began. To be asked for when
    /// something may be lost that kept versions from being issued twice.
    ///
    /// # Errors
    /// [`MetaError::Io`]: either life may be the one that is found next time.
    pub fn renew(&self, fs: &dyn Fs, dir: &Path, wall_ms: u64) -> Result<Meta, MetaError> {
        let path = dir.join("meta");
        let incarnation = wall_ms.max(self.incarnation.saturating_add(1));
        let next = Meta { incarnation, ..*self };
        match write_anew(fs, &path, &next.encode()) {
            Ok(()) => Ok(next),
            Err(source) => Err(MetaError::Io { path, source }),
        }
    }

    fn encode(&self) -> String {
        let Meta { node, cluster, incarnation } = self;
        let text = format!(
            "quorate data {FORMAT_VERSION}\nnode {node}\ncluster {cluster:016x}\nincarnation {incarnation:016x}\n"
        );
        let crc = checksum(0, text.as_bytes());
        format!("{text}crc32 {crc:08x}\n")
    }

    fn decode(text: &str) -> Result<Self, Bad> {
        let (body, last) = text.trim_end_matches('\n').rsplit_once('\n').ok_or(Bad::Damaged)?;
        let crc = checksum(checksum(0, body.as_bytes()), b"\n");
        if last != format!("crc32 {crc:08x}") {
            return Err(Bad::Damaged);
        }
        let (first, fields) = body.split_once('\n').ok_or(Bad::Damaged)?;
        let version = first.strip_prefix("quorate data ").and_then(|version| version.parse().ok());
        match version.ok_or(Bad::Damaged)? {
            FORMAT_VERSION => {}
            version => return Err(Bad::Version(version)),
        }
        let parse = || {
            let mut lines = fields.lines();
            let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
            let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
            let node = NodeId::new(field("node")?).ok()?;
            let meta = Meta {
                node,
                cluster: hex(field("cluster")?)?,
                incarnation: hex(field("incarnation")?)?,
            };
            lines.next().is_none().then_some(meta)
        };
        parse().ok_or(Bad::Damaged)
    }
}

enum Bad {
    Damaged,
    Version(u32),
}

impl Bad {
    fn at(self, path: PathBuf) -> MetaError {
        match self {
            Bad::Damaged => MetaError::Damaged { path },
            Bad::Version(found) => MetaError::Version { path, found, supported: FORMAT_VERSION },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Crash, Fault, FaultFs, FaultKind};

    const DIR: &str = "/data/n1";

    fn meta(node: &str, cluster: u64, incarnation: u64) -> Meta {
        Meta { node: NodeId::new(node).unwrap(), cluster, incarnation }
    }

    fn open(fs: &FaultFs, wanted: Meta) -> Result<Meta, MetaError> {
        Meta::open(fs, DIR.as_ref(), wanted)
    }

    fn created() -> FaultFs {
        let fs = FaultFs::new();
        open(&fs, meta("n1", 7, 1)).unwrap();
        fs
    }

    fn file() -> PathBuf {
        Path::new(DIR).join("meta")
    }

    #[test]
    fn the_file_is_frozen() {
        let text = String::from_utf8(created().contents(&file()).unwrap()).unwrap();
        let head =
            "quorate data 1\nnode n1\ncluster 0000000000000007\nincarnation 0000000000000001\n";
        assert_eq!(text, format!("{head}crc32 {:08x}\n", checksum(0, head.as_bytes())));
    }

    #[test]
    fn the_first_incarnation_stays() {
        assert_eq!(open(&created(), meta("n1", 7, 2)).unwrap(), meta("n1", 7, 1));
    }

    #[test]
    fn another_life_is_always_a_later_one() {
        let fs = created();
        let first = open(&fs, meta("n1", 7, 100)).unwrap();
        let second = first.renew(&fs, Path::new(DIR), 0).unwrap();
        assert_eq!(second.incarnation, first.incarnation + 1);
        let third = second.renew(&fs, Path::new(DIR), 1_000).unwrap();
        assert_eq!(third.incarnation, 1_000);
        assert_eq!(open(&fs.crash(Crash::Nothing), meta("n1", 7, 2_000)).unwrap(), third);
    }

    #[test]
    fn another_node_and_another_cluster_are_refused_by_both_names() {
        let error = open(&created(), meta("n2", 7, 2)).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, MetaError::OtherNode { .. })
                && text.contains("n1")
                && text.contains("n2"),
            "{text}"
        );
        let error = open(&created(), meta("n1", 8, 2)).unwrap_err();
        let text = error.to_string();
        let both = text.contains("0000000000000007") && text.contains("0000000000000008");
        assert!(matches!(error, MetaError::OtherCluster { .. }) && both, "{text}");
    }

    #[test]
    fn another_version_is_refused_by_both_numbers() {
        let fs = created();
        let text = "quorate data 2\nwhatever\n";
        let crc = checksum(0, text.as_bytes());
        fs.tamper(&file(), |bytes| *bytes = format!("{text}crc32 {crc:08x}\n").into()).unwrap();
        let error = open(&fs, meta("n1", 7, 1)).unwrap_err();
        assert!(matches!(error, MetaError::Version { found: 2, supported: 1, .. }), "{error}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_but_that_of_the_last_line_end_is_seen() {
        let whole = created().contents(&file()).unwrap();
        for bit in 0..(whole.len() - 1) * 8 {
            let fs = created();
            fs.tamper(&file(), |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
            assert!(
                matches!(open(&fs, meta("n1", 7, 1)), Err(MetaError::Damaged { .. })),
                "bit {bit}"
            );
        }
        for len in 0..whole.len() - 1 {
            let fs = created();
            fs.tamper(&file(), |bytes| bytes.truncate(len)).unwrap();
            assert!(
                matches!(open(&fs, meta("n1", 7, 1)), Err(MetaError::Damaged { .. })),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn data_without_a_name_is_refused() {
        let fs = FaultFs::new();
        fs.create_dir_all(&Path::new(DIR).join("log")).unwrap();
        fs.create(&Path::new(DIR).join("log/0000000000000001.qlog")).unwrap();
        assert!(matches!(open(&fs, meta("n1", 7, 1)), Err(MetaError::Missing { .. })));
    }

    #[test]
    fn a_crash_at_any_operation_leaves_a_folder_that_opens() {
        for at in 0.. {
            let fs = FaultFs::new();
            fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
            let done = open(&fs, meta("n1", 7, 1)).is_ok();
            for crash in [
                Crash::Nothing,
                Crash::Everything,
                Crash::Prefix(1),
                Crash::Prefix(2),
                Crash::Random(at),
            ] {
                let found = open(&fs.crash(crash), meta("n1", 7, 2)).unwrap();
                assert!(
                    found == meta("n1", 7, 1) || (!done && found == meta("n1", 7, 2)),
                    "{at} {crash:?}"
                );
            }
            if done {
                return;
            }
        }
    }
}
