//! The process at the other end of a connection, as far as the system tells.

use crate::history::Asker;
use crate::system::trust::user;
use crate::system::{peer_of, program_behind};
use rustix::net::{SocketAddrAny, getpeername, getsockname};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

/// The most that is read of each table of TCP connections, in bytes: some fifty thousand connections.
const TABLE_LIMIT: u64 = 8 << 20;

/// The tables (proc_pid_net(5)). A connection to 127.0.0.1 may begin at a socket of IPv6.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a connection that both ends use. Of one that the other end has closed, the table shows no user.
const ESTABLISHED: &str = "01";

/// Who is at the other end. Through TCP, only the user can be known.
pub fn asker(connection: &OwnedFd, is_tcp: bool) -> Asker {
    if is_tcp {
        return Asker { user: user_of_tcp(connection), ..Asker::default() };
    }
    match peer_of(connection) {
        Ok((pid, user)) => Asker { pid, user: Some(user), program: pid.and_then(program_behind) },
        Err(_) => Asker::default(),
    }
}

/// Why the process at the other end gets no answer without a key: it is not this user's. `None`: it is.
pub fn stranger(connection: &OwnedFd, is_tcp: bool) -> Option<String> {
    let other = match is_tcp {
        true => user_of_tcp(connection),
        false => peer_of(connection).ok().map(|(_, user)| user),
    };
    match other {
        Some(other) if other == user() => None,
        Some(other) => Some(format!("user {other} asks, and only user {} gets an answer", user())),
        None => Some("the system does not tell which user asks".to_owned()),
    }
}

/// The user of the process that has the other end open.
fn user_of_tcp(connection: &OwnedFd) -> Option<u32> {
    let address = |any: SocketAddrAny| SocketAddrV4::try_from(any).ok();
    let (own, other) = (address(getsockname(connection).ok()?)?, address(getpeername(connection).ok()??)?);
    TABLES.iter().find_map(|table| {
        let table = BufReader::new(File::open(table).ok()?.take(TABLE_LIMIT));
        user_in(table, other, own)
    })
}

/// Looks for the connection from `local` to `remote` in a table.
fn user_in(table: impl BufRead, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    // Four bytes are shown as one number of this machine.
    let hexadecimal = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
    let shown =
        |address: SocketAddrV4| format!("{}:{:04X}", hexadecimal(address.ip().octets()), address.port());
    let (local, remote) = (shown(local), shown(remote));
    // An address of IPv4 in one of IPv6 (RFC 4291 section 2.5.5.2).
    let mapped = hexadecimal([0; 4]) + &hexadecimal([0; 4]) + &hexadecimal([0, 0, 0xff, 0xff]);
    let is = |field: Option<&str>, wanted: &str| {
        field.is_some_and(|field| field.strip_prefix(mapped.as_str()).unwrap_or(field) == wanted)
    };
    table.lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it =
            is(fields.next(), &local) && is(fields.next(), &remote) && fields.next() == Some(ESTABLISHED);
        // Behind the state: queues, timer, retransmissions, user, timeout, inode.
        let (user, inode) = (fields.nth(3)?, fields.nth(1)?);
        (is_it && inode != "0").then(|| user.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_user_of_a_connection_is_that_of_its_other_end() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0 100 0 0 10 0\n\
   1: 0100007F:1F90 0100007F:A001 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0 20 4 30 10 -1\n\
   2: 0100007F:A001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 13 1 0 20 4 30 10 -1\n\
   3: 0100007F:A002 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n\
   4: 0100007F:A003 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1003        0 0 1 0 20 4 30 10 -1\n\
   5: 0000000000000000FFFF00000100007F:A004 0000000000000000FFFF00000100007F:1F90 01 0:0 0:0 0 1004 0 15 1\n\
   6: broken\n";
        let user = |port| {
            let address = |port| SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port);
            user_in(table.as_bytes(), address(port), address(8080))
        };
        let found = [0xa001, 0xa002, 0xa003, 0xa004, 0xa005].map(user);
        assert_eq!(found, [Some(1001), None, None, Some(1004), None]);
    }
}
