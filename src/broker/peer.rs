//! The process at the other end of a connection, as far as the system tells.

use crate::history::Asker;
use crate::system::trust::user;
use crate::system::{peer_of, program_behind};
use crate::text::printable;
use rustix::net::{SocketAddrAny, getpeername, getsockname};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

/// The most that is read of each table of TCP connections, in bytes: some fifty thousand connections.
const TABLE_LIMIT: u64 = 8 << 20;

/// The tables (proc_pid_net(5)). A connection to 127.0.0.1 may begin at a socket of IPv6.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// An address of IPv4 in one of IPv6 (RFC 4291 section 2.5.5.2). Four bytes are shown as one number of this machine.
const MAPPED: &str = match cfg!(target_endian = "little") {
    true => "0000000000000000FFFF0000",
    false => "00000000000000000000FFFF",
};

/// The state of a connection that both ends use. Of one that the other end has closed, the table shows no user.
const ESTABLISHED: &str = "01";

/// Who is at the other end. Through TCP, only the user can be known.
pub fn asker(connection: &OwnedFd, is_tcp: bool) -> Asker {
    match peer_of(connection).ok().filter(|_| !is_tcp) {
        Some((pid, user)) => {
            let program = pid.and_then(program_behind).map(|program| printable(&program));
            Asker::new(pid, Some(user), program)
        }
        None => Asker::new(None, user_of_tcp(connection), None),
    }
}

/// Whether the process at the other end is not this user's, or may not be.
pub fn is_stranger(connection: &OwnedFd, is_tcp: bool) -> bool {
    let other = match is_tcp {
        true => user_of_tcp(connection),
        false => peer_of(connection).ok().map(|(_, user)| user),
    };
    other != Some(user())
}

/// The user of the process that has the other end open.
fn user_of_tcp(connection: &OwnedFd) -> Option<u32> {
    let address = |any: SocketAddrAny| SocketAddrV4::try_from(any).ok();
    let (own, other) = (address(getsockname(connection).ok()?)?, address(getpeername(connection).ok()??)?);
    TABLES.iter().find_map(|table| {
        let table = File::open(table).ok()?.take(TABLE_LIMIT);
        user_in(&mut BufReader::new(table), other, own)
    })
}

/// Looks for the connection from `local` to `remote` in a table.
fn user_in(table: &mut dyn BufRead, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    // Four bytes are shown as one number of this machine.
    let shown = |address: SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let ends = [shown(local), shown(remote), ESTABLISHED.to_owned()];
    let mut line = String::new();
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = ends.iter().all(|wanted| {
            fields.next().is_some_and(|field| field.strip_prefix(MAPPED).unwrap_or(field) == wanted)
        });
        if is_it {
            // Behind the state: queues, timer, retransmissions, user, timeout, inode.
            let (user, inode) = (fields.nth(3)?, fields.nth(1)?);
            return user.parse().ok().filter(|_| inode != "0");
        }
        line.clear();
    }
    None
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
            user_in(&mut table.as_bytes(), address(port), address(8080))
        };
        let found = [0xa001, 0xa002, 0xa003, 0xa004, 0xa005].map(user);
        assert_eq!(found, [Some(1001), None, None, Some(1004), None]);
    }
}
