use std::net::SocketAddr;

/// An address that is not on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} is not a loopback address, and without a cluster secret peers do not prove who they are, \
     so anyone who can reach the port could read and write everything; set a secret, or use \
     127.0.0.1 or [::1]"
)]
pub struct NotLoopback {
    /// The address.
    pub addr: SocketAddr,
}

/// Lets an address through that only this machine can reach, to dial it or to listen on it.
///
/// # Errors
/// [`NotLoopback`] for every other address.
pub fn check_loopback(addr: SocketAddr) -> Result<(), NotLoopback> {
    if addr.ip().to_canonical().is_loopback() { Ok(()) } else { Err(NotLoopback { addr }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_pass() {
        for good in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check_loopback(good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let refused = check_loopback(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(refused.contains("set a secret"), "{refused}");
        }
    }
}
