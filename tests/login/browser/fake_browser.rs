//! The browser that these tests play: it follows what it is given over loopback HTTP, and keeps every word.

use crate::support::*;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// What a browser was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// A loopback URL in its parts: where to connect, and what to ask for.
pub fn parts(url: &str) -> (SocketAddr, &str) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (host.replace("localhost", "127.0.0.1").parse().unwrap(), target)
}

/// Sends bytes to where the URL points, and reads until the other side has closed.
pub fn converse(url: &str, bytes: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(parts(url).0)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

pub fn request(method: &str, url: &str) -> io::Result<Answer> {
    let target = parts(url).1;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    converse(url, format!("{method} {target} HTTP/1.1\r\nHost: browser\r\nCookie: a=b\r\n\r\n").as_bytes())
}

pub fn get(url: &str) -> Answer {
    request("GET", url).unwrap()
}

/// A person opens the address and agrees, or whatever the server is set to: where the server sends the browser.
pub fn redirect(address: &str) -> String {
    let answer = get(address);
    assert_eq!(answer.status, 302, "{answer:?}");
    answer.header("location").unwrap().to_owned()
}

/// The parameters in the query of a URL.
pub fn query(url: &str) -> Vec<(String, String)> {
    let query = url.split_once('?').unwrap().1;
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

pub fn value(url: &str, name: &str) -> String {
    query(url).into_iter().find_map(|(key, value)| (key == name).then_some(value)).unwrap_or_default()
}

/// The redirect URI of this login with an answer of ours behind it.
pub fn answer_to(address: &str, parameters: &[(&str, &str)]) -> String {
    let (redirect_uri, state) = (value(address, "redirect_uri"), value(address, "state"));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("state", &state)
        .extend_pairs(parameters)
        .finish();
    format!("{redirect_uri}?{query}")
}

/// A login with an issuer and a client.
pub fn login(home: &Home, server: &AuthorizationServer, more: &[&str]) -> Command {
    let mut command =
        home.command(&["login", &server.issuer(), "--client-id", server.client_id(), "--browser"]);
    command.args(more);
    command
}

/// The address that a process shows.
#[track_caller]
pub fn shown(said: impl Fn() -> String) -> String {
    let address = || {
        let said = said();
        let (_, rest) = said.split_once("open  ")?;
        rest.split_once('\n').map(|(address, _)| address.trim_end().to_owned())
    };
    wait_for("an address", || address().is_some());
    address().unwrap()
}

/// Starts a login and gives the address that it shows.
#[track_caller]
pub fn start(command: &mut Command) -> (Process, String) {
    let process = Process::start(command);
    let address = shown(|| process.said());
    (process, address)
}
