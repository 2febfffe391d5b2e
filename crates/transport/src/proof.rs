//! What two nodes say to prove that they know the same secret. Pure but for the nonces.

use std::{fmt, str::FromStr};

use ring::{
    aead::{AES_128_GCM, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, Salt},
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    Hello,
    seal::{Opener, Sealer, Seals},
};

/// Bytes of a nonce, and of a proof.
pub(crate) const PROOF_BYTES: usize = 32;

/// Which end of a connection a node is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Dialer,
    Acceptor,
}

/// 32 bytes in a header, as 64 hex digits: a nonce or a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) [u8; PROOF_BYTES]);

/// A secret, which is never shown.
pub(crate) struct Secret {
    key: hmac::Key,
    bytes: Box<[u8]>,
}

/// Everything that both ends said before the proofs, in one form.
///
/// A proof covers all of it, so nothing of it can be changed on the way: not who speaks, in which
/// of its lives, for which cluster, nor which versions it offers. The nonces make it another one
/// for every connection.
pub(crate) struct Transcript(Vec<u8>);

impl End {
    fn proof_label(self) -> &'static [u8] {
        match self {
            Self::Dialer => b"quorate/1 proof of the dialer",
            Self::Acceptor => b"quorate/1 proof of the acceptor",
        }
    }

    fn key_label(self) -> &'static [u8] {
        match self {
            Self::Dialer => b"quorate/1 frames of the dialer",
            Self::Acceptor => b"quorate/1 frames of the acceptor",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

impl HexBytes {
    /// A nonce.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; PROOF_BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }
}

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for HexBytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "takes 64 hex digits";
        let mut bytes = [0; PROOF_BYTES];
        if text.len() != 2 * PROOF_BYTES {
            return Err(BAD);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(digits[at]).to_digit(16).ok_or(BAD);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).expect("two hex digits");
        }
        Ok(Self(bytes))
    }
}

impl Transcript {
    pub(crate) fn new(
        dialer: &Hello,
        dialer_nonce: HexBytes,
        acceptor: &Hello,
        acceptor_nonce: HexBytes,
    ) -> Self {
        let mut bytes = Vec::with_capacity(256);
        for (hello, nonce) in [(dialer, dialer_nonce), (acceptor, acceptor_nonce)] {
            bytes.extend(nonce.0);
            for id in [&hello.node, &hello.to] {
                let id = id.as_str().as_bytes();
                bytes.push(u8::try_from(id.len()).expect("ids are short"));
                bytes.extend(id);
            }
            bytes.extend(hello.incarnation.to_le_bytes());
            bytes.extend(hello.fingerprint.to_le_bytes());
            bytes.extend(hello.protocols.start().to_le_bytes());
            bytes.extend(hello.protocols.end().to_le_bytes());
        }
        Self(bytes)
    }
}

impl Secret {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes), bytes: bytes.into() }
    }

    /// What shows that the node at this end knows the secret. What one end says is of no use to
    /// the other.
    pub(crate) fn prove(&self, end: End, transcript: &Transcript) -> HexBytes {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(end.proof_label());
        context.update(&transcript.0);
        HexBytes(context.sign().as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// Whether the node at this end knows the secret. Takes as long for a wrong proof as for a
    /// right one.
    pub(crate) fn is_proof(&self, end: End, transcript: &Transcript, proof: &HexBytes) -> bool {
        let said = [end.proof_label(), &transcript.0].concat();
        hmac::verify(&self.key, &said, &proof.0).is_ok()
    }

    /// The keys of the frames, for the node at this end: one for each direction, and others for
    /// every connection.
    pub(crate) fn seals(&self, end: End, transcript: &Transcript) -> Seals {
        let salt = Salt::new(HKDF_SHA256, digest(&SHA256, &transcript.0).as_ref());
        let source = salt.extract(&self.bytes);
        let key = |end: End| {
            let label = [end.key_label()];
            let key = source.expand(&label, &AES_128_GCM).expect("a key is short");
            UnboundKey::from(key)
        };
        Seals { sealer: Sealer::new(key(end)), opener: Opener::new(key(end.other())) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_record::NodeId;

    use super::*;
    use crate::{Identity, Protocol};

    fn hello(node: &str, to: &str) -> Hello {
        let node = NodeId::new(node).unwrap();
        let newest = Protocol::V3;
        let identity = Identity { node, incarnation: 0x5f0c_21aa, fingerprint: 7, newest };
        identity.hello(NodeId::new(to).unwrap())
    }

    fn transcript() -> Transcript {
        let answer = Hello { protocols: 3..=3, ..hello("n2", "n1") };
        Transcript::new(&hello("n1", "n2"), HexBytes([1; 32]), &answer, HexBytes([2; 32]))
    }

    fn secret() -> Secret {
        Secret::new(b"0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn the_bytes_of_transcript_and_proofs_are_frozen() {
        let hello = |nonce: &str, from: &str, to: &str, first: &str| {
            let ids = format!("02{from}02{to}");
            format!("{}{ids}aa210c5f000000000700000000000000{first}0300", nonce.repeat(32))
        };
        let (n1, n2) = ("6e31", "6e32");
        let said = [hello("01", n1, n2, "0200"), hello("02", n2, n1, "0300")].concat();
        let hex: String = transcript().0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, said);
        assert_eq!(secret().prove(End::Acceptor, &transcript()).to_string(), ACCEPTOR);
        assert_eq!(secret().prove(End::Dialer, &transcript()).to_string(), DIALER);
    }
    const ACCEPTOR: &str = "d25ee78d5bf3e61f9a5464d710deb08996a6b69f826434659d171853adc003b0";
    const DIALER: &str = "1b7e08111121cab68d65644a70ffef280f7baa14774e899cf1bb0b284f0af529";

    #[test]
    fn a_proof_is_of_one_secret_and_one_end() {
        for end in [End::Dialer, End::Acceptor] {
            let proof = secret().prove(end, &transcript());
            assert!(secret().is_proof(end, &transcript(), &proof));
            assert!(!secret().is_proof(end.other(), &transcript(), &proof), "reflected");
            let other = Secret::new(b"0123456789abcdef0123456789abcdee");
            assert!(!other.is_proof(end, &transcript(), &proof), "of another cluster");
        }
    }

    #[test]
    fn a_proof_is_of_everything_that_both_said() {
        let (dialer, acceptor) = (hello("n1", "n2"), hello("n2", "n1"));
        let (n, m) = (HexBytes([1; 32]), HexBytes([2; 32]));
        let good = Transcript::new(&dialer, n, &acceptor, m);
        let proof = secret().prove(End::Dialer, &good);
        let n3 = NodeId::new("n3").unwrap();
        let changed = |hello: &Hello| {
            [
                Hello { node: n3, ..hello.clone() },
                Hello { to: n3, ..hello.clone() },
                Hello { incarnation: 1, ..hello.clone() },
                Hello { fingerprint: 8, ..hello.clone() },
                Hello { protocols: 2..=2, ..hello.clone() },
                Hello { protocols: 3..=3, ..hello.clone() },
            ]
        };
        let dialers = changed(&dialer).map(|changed| Transcript::new(&changed, n, &acceptor, m));
        let acceptors = changed(&acceptor).map(|changed| Transcript::new(&dialer, n, &changed, m));
        let nonces = [
            Transcript::new(&dialer, m, &acceptor, m),
            Transcript::new(&dialer, n, &acceptor, n),
            Transcript::new(&acceptor, n, &dialer, m),
        ];
        for bad in dialers.into_iter().chain(acceptors).chain(nonces) {
            assert!(!secret().is_proof(End::Dialer, &bad, &proof));
        }
    }

    #[test]
    fn each_direction_and_each_connection_has_its_own_key() {
        let frame =
            |end, transcript: &Transcript| secret().seals(end, transcript).sealer.farewell();
        let other = Transcript::new(
            &hello("n1", "n2"),
            HexBytes([3; 32]),
            &hello("n2", "n1"),
            HexBytes([2; 32]),
        );
        let frames = [
            frame(End::Dialer, &transcript()),
            frame(End::Acceptor, &transcript()),
            frame(End::Dialer, &other),
        ];
        let hex = |frame: &[u8]| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&frames[0]), "000000005c7f4829c8f0485b797a7a2fc47ea946", "frozen");
        assert_eq!(hex(&frames[1]), "000000003db75b19176a572c80893d68e469159a", "frozen");
        assert_ne!(frames[0], frames[2]);
        for (at, opens) in [true, false, false].into_iter().enumerate() {
            let mut opener = secret().seals(End::Acceptor, &transcript()).opener;
            let mut buffer = bytes::BytesMut::from(&frames[at][..]);
            assert_eq!(opener.next_frame(&mut buffer).is_ok(), opens);
        }
    }

    #[test]
    fn a_nonce_is_64_hex_digits() {
        let nonce = HexBytes::random();
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        for bad in ["", &"0".repeat(63), &"0".repeat(65), &"+".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<HexBytes>().is_err(), "{bad}");
        }
    }
}
