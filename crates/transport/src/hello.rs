//! What two nodes tell each other before they talk: who they are, and what they agree on.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use quorate_record::NodeId;

use crate::{Protocol, proof::Token};

const NODE: HeaderName = HeaderName::from_static("quorate-node");
const TO: HeaderName = HeaderName::from_static("quorate-to");
const INCARNATION: HeaderName = HeaderName::from_static("quorate-incarnation");
const CLUSTER: HeaderName = HeaderName::from_static("quorate-cluster");
const PROTOCOL: HeaderName = HeaderName::from_static("quorate-protocol");
const NONCE: HeaderName = HeaderName::from_static("quorate-nonce");
const PROOF: HeaderName = HeaderName::from_static("quorate-proof");

/// Who a node is, in one run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Which of its lives this is.
    pub incarnation: u64,
    /// A hash of the cluster's layout: nodes that place keys differently must not talk.
    pub fingerprint: u64,
    /// The newest version of the messages that it offers; it offers all older ones that this
    /// program speaks, too.
    pub newest: Protocol,
}

/// What a node says of itself to a peer, on either side of a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub node: NodeId,
    /// Who is meant.
    pub to: NodeId,
    /// Which of the speaker's lives this is.
    pub incarnation: u64,
    /// The speaker's hash of the cluster's layout.
    pub fingerprint: u64,
    /// The versions of the messages that it understands; in an answer, the chosen one.
    pub protocols: RangeInclusive<u16>,
}

/// What two nodes have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who the other is.
    pub node: NodeId,
    /// Which of its lives this is.
    pub incarnation: u64,
    /// The version of the messages that both understand.
    pub protocol: Protocol,
}

/// Why two nodes must not talk. The text is for both of their logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// A header is missing or makes no sense.
    #[error("header {name}: {problem}")]
    BadHeader {
        /// The header's name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection was meant for another node.
    #[error("this is node {is}, not {meant}; check the addresses in nodes.json")]
    OtherNode {
        /// Who was meant.
        meant: NodeId,
        /// Who it is.
        is: NodeId,
    },
    /// The speaker is not the peer that was expected, or none at all.
    #[error("node {is} is not a peer of {of} here; check the ids and addresses in nodes.json")]
    UnknownNode {
        /// Who speaks.
        is: NodeId,
        /// Who listens.
        of: NodeId,
    },
    /// The two nodes place keys differently, or belong to different clusters.
    #[error(
        "node {is} has cluster fingerprint {theirs:016x}, node {of} has {ours:016x}; all nodes \
         need the same ids, vnodes and n in nodes.json"
    )]
    OtherCluster {
        /// Who speaks.
        is: NodeId,
        /// The speaker's fingerprint.
        theirs: u64,
        /// Who listens.
        of: NodeId,
        /// The listener's fingerprint.
        ours: u64,
    },
    /// The two nodes' programs are too far apart.
    #[error(
        "node {is} speaks protocols {} to {}, node {of} speaks {} to {}; upgrade the older one",
        theirs.start(), theirs.end(), ours.start(), ours.end()
    )]
    NoCommonProtocol {
        /// Who speaks.
        is: NodeId,
        /// What the speaker understands.
        theirs: RangeInclusive<u16>,
        /// Who listens.
        of: NodeId,
        /// What the listener understands.
        ours: RangeInclusive<u16>,
    },
    /// The speaker offers no proof that it belongs to the cluster.
    #[error(
        "node {is} does not prove that it knows the cluster secret; give it the one of node {of}"
    )]
    NoProof {
        /// Who speaks.
        is: NodeId,
        /// Who listens.
        of: NodeId,
    },
    /// The speaker has a cluster secret, and the listener has none.
    #[error(
        "node {is} wants a proof of the cluster secret, and node {of} has none; give it that one"
    )]
    NoSecret {
        /// Who speaks.
        is: NodeId,
        /// Who listens.
        of: NodeId,
    },
    /// The speaker shows no certificate, or one of another name.
    #[error(
        "node {is} shows no certificate that names it; node {of} wants one of the cluster's \
         authority with the DNS name {is}"
    )]
    NoCertificate {
        /// Who speaks.
        is: NodeId,
        /// Who listens.
        of: NodeId,
    },
    /// The speaker's proof is wrong. Which of the reasons it is cannot be told from outside.
    #[error(
        "node {is} proves none of the cluster secrets of node {of}: it has another one, or what the \
         two say is changed on its way"
    )]
    WrongProof {
        /// Who speaks.
        is: NodeId,
        /// Who listens.
        of: NodeId,
    },
}

impl Identity {
    fn protocols(&self) -> RangeInclusive<u16> {
        Protocol::OLDEST.number()..=self.newest.number()
    }

    /// What to say to the node `to`.
    #[must_use]
    pub fn hello(&self, to: NodeId) -> Hello {
        let Self { node, incarnation, fingerprint, .. } = *self;
        Hello { node, to, incarnation, fingerprint, protocols: self.protocols() }
    }
}

impl Hello {
    /// Whether the node `me`, which has been told this, may talk with the speaker. `is_peer` knows
    /// whom it expects.
    ///
    /// # Errors
    /// [`HandshakeError`], which says what differs.
    pub fn check(
        &self,
        me: &Identity,
        is_peer: impl FnOnce(NodeId) -> bool,
    ) -> Result<Accepted, HandshakeError> {
        let (is, of) = (self.node, me.node);
        if self.to != of {
            return Err(HandshakeError::OtherNode { meant: self.to, is: of });
        }
        if !is_peer(is) {
            return Err(HandshakeError::UnknownNode { is, of });
        }
        let (theirs, ours) = (self.fingerprint, me.fingerprint);
        if theirs != ours {
            return Err(HandshakeError::OtherCluster { is, theirs, of, ours });
        }
        let (theirs, ours) = (&self.protocols, me.protocols());
        let newest = *theirs.end().min(ours.end());
        let common = Protocol::from_number(newest)
            .filter(|_| theirs.contains(&newest) && ours.contains(&newest));
        let Some(protocol) = common else {
            return Err(HandshakeError::NoCommonProtocol { is, theirs: theirs.clone(), of, ours });
        };
        Ok(Accepted { node: is, incarnation: self.incarnation, protocol })
    }

    /// The answer of the node `me` to the speaker once both agree.
    #[must_use]
    pub(crate) fn answer(accepted: Accepted, me: &Identity) -> Self {
        let protocol = accepted.protocol.number();
        Self { protocols: protocol..=protocol, ..me.hello(accepted.node) }
    }

    /// Adds the headers that carry this.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let protocols = format!("{}-{}", self.protocols.start(), self.protocols.end());
        for (name, value) in [
            (NODE, self.node.to_string()),
            (TO, self.to.to_string()),
            (INCARNATION, format!("{:x}", self.incarnation)),
            (CLUSTER, format!("{:016x}", self.fingerprint)),
            (PROTOCOL, protocols),
        ] {
            let value = HeaderValue::try_from(value).expect("ids and numbers are plain ASCII");
            headers.insert(name, value);
        }
    }

    /// Reads it back from the headers of a request or an answer.
    ///
    /// # Errors
    /// [`HandshakeError::BadHeader`].
    pub fn read_headers(headers: &HeaderMap) -> Result<Self, HandshakeError> {
        Ok(Self {
            node: read(headers, "Quorate-Node")?,
            to: read(headers, "Quorate-To")?,
            incarnation: read::<Hex>(headers, "Quorate-Incarnation")?.0,
            fingerprint: read::<Hex>(headers, "Quorate-Cluster")?.0,
            protocols: read::<Protocols>(headers, "Quorate-Protocol")?.0,
        })
    }
}

/// Adds a nonce, and a proof if there is one yet.
pub(crate) fn write_proof(headers: &mut HeaderMap, nonce: Token, proof: Option<Token>) {
    for (name, token) in [(NONCE, Some(nonce)), (PROOF, proof)] {
        let Some(token) = token else { continue };
        let value = HeaderValue::try_from(token.to_string()).expect("hex digits are plain ASCII");
        headers.insert(name, value);
    }
}

/// The nonce of the speaker, if it has one: it wants proofs.
pub(crate) fn read_nonce(headers: &HeaderMap) -> Result<Option<Token>, HandshakeError> {
    headers.contains_key(NONCE).then(|| read(headers, "Quorate-Nonce")).transpose()
}

/// The proof of the speaker, if it has one.
pub(crate) fn read_proof(headers: &HeaderMap) -> Result<Option<Token>, HandshakeError> {
    headers.contains_key(PROOF).then(|| read(headers, "Quorate-Proof")).transpose()
}

fn read<T: FromStr<Err: fmt::Display>>(
    headers: &HeaderMap,
    name: &'static str,
) -> Result<T, HandshakeError> {
    let bad = |problem| HandshakeError::BadHeader { name, problem };
    let value = headers.get(name).ok_or_else(|| bad("is missing".into()))?;
    let text = value.to_str().map_err(|_| bad("is not plain text".into()))?;
    text.parse().map_err(|error: T::Err| bad(error.to_string()))
}

struct Hex(u64);

impl FromStr for Hex {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `from_str_radix` alone would let a sign and any number of zeros through.
        let plain = text.len() <= 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| plain);
        number.map(Self).ok_or("takes 1 to 16 hex digits")
    }
}

struct Protocols(RangeInclusive<u16>);

impl FromStr for Protocols {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text
            .split_once('-')
            .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
        range.filter(|range| !range.is_empty()).map(Self).ok_or("takes a range like 1-2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn identity(node: &str) -> Identity {
        let newest = Protocol::NEWEST;
        Identity { node: id(node), incarnation: 0x5f0c_21aa, fingerprint: 7, newest }
    }

    fn check(hello: &Hello) -> Result<Accepted, HandshakeError> {
        hello.check(&identity("n2"), |node| node == id("n1"))
    }

    #[test]
    fn nodes_that_agree_learn_of_each_other() {
        let agreed = Accepted { node: id("n1"), incarnation: 0x5f0c_21aa, protocol: Protocol::V4 };
        assert_eq!(check(&identity("n1").hello(id("n2"))), Ok(agreed));
        let answer = Hello::answer(agreed, &identity("n2"));
        let agreed = answer.check(&identity("n1"), |node| node == id("n2")).unwrap();
        assert_eq!((agreed.node, agreed.protocol), (id("n2"), Protocol::V4));
    }

    #[test]
    fn whatever_differs_is_named() {
        let hello = identity("n1").hello(id("n2"));
        for (bad, says) in [
            (Hello { to: id("n3"), ..hello.clone() }, "this is node n2, not n3"),
            (Hello { node: id("n9"), ..hello.clone() }, "n9 is not a peer of n2"),
            (
                Hello { fingerprint: 8, ..hello.clone() },
                "n1 has cluster fingerprint 0000000000000008, node n2 has 0000000000000007",
            ),
            (
                Hello { protocols: 5..=6, ..hello.clone() },
                "n1 speaks protocols 5 to 6, node n2 speaks 2 to 4",
            ),
            (Hello { protocols: 1..=1, ..hello }, "n1 speaks protocols 1 to 1"),
        ] {
            let error = check(&bad).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_newest_common_protocol_is_chosen() {
        for (theirs, chosen) in [
            (0..=9, Protocol::V4),
            (2..=2, Protocol::V2),
            (3..=3, Protocol::V3),
            (4..=5, Protocol::V4),
        ] {
            let hello = Hello { protocols: theirs, ..identity("n1").hello(id("n2")) };
            assert_eq!(check(&hello).unwrap().protocol, chosen);
            let older = Identity { newest: Protocol::V2, ..identity("n2") };
            let agreed = hello.check(&older, |_| true).ok().map(|agreed| agreed.protocol);
            let both = hello.protocols.contains(&2).then_some(Protocol::V2);
            assert_eq!(agreed, both, "a node that is limited to version 2");
        }
    }

    #[test]
    fn headers_are_read_back() {
        let hello = Hello { protocols: 1..=3, ..identity("n1").hello(id("n2")) };
        let mut headers = HeaderMap::new();
        hello.write_headers(&mut headers);
        assert_eq!(headers["quorate-incarnation"], "5f0c21aa");
        assert_eq!(headers["quorate-cluster"], "0000000000000007");
        assert_eq!(headers["quorate-protocol"], "1-3");
        assert_eq!(Hello::read_headers(&headers), Ok(hello));
    }

    #[test]
    fn missing_and_senseless_headers_are_named() {
        let mut good = HeaderMap::new();
        identity("n1").hello(id("n2")).write_headers(&mut good);
        for name in ["Quorate-Node", "Quorate-To", "Quorate-Incarnation", "Quorate-Cluster"] {
            for bad in [None, Some(""), Some("+1 "), Some("00000000000000000000000000000000000")] {
                let mut headers = good.clone();
                match bad {
                    None => drop(headers.remove(name)),
                    Some(bad) => drop(headers.insert(name, HeaderValue::from_static(bad))),
                }
                let error = Hello::read_headers(&headers).unwrap_err().to_string();
                assert!(error.starts_with(&format!("header {name}: ")), "{error}");
            }
        }
        for bad in ["1", "2-1", "1-65536", "-"] {
            let mut headers = good.clone();
            headers.insert(PROTOCOL, HeaderValue::from_static(bad));
            assert!(Hello::read_headers(&headers).is_err(), "{bad}");
        }
    }
}
