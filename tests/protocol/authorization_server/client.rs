//! A client that sends what the test says, right or wrong.

use serde_json::Value;
use servers::authorization_server::{AuthorizationServer, Endpoint};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// A member of the JSON body; empty where it is absent.
    pub fn member(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// Status and `error` member.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.member("error"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(key, value)| (key == name).then_some(value))
    }
}

fn connect(server: &AuthorizationServer) -> io::Result<TcpStream> {
    let issuer = server.issuer();
    let address = issuer.split('/').nth(2).unwrap_or_default();
    TcpStream::connect(address)
}

/// Sends bytes and reads until the server has closed the connection.
pub fn converse(server: &AuthorizationServer, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = connect(server)?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends bytes and reads one whole answer.
pub fn send(server: &AuthorizationServer, request: &str) -> Answer {
    parse(&converse(server, request).unwrap())
}

pub fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A target and further header lines, each with its line end.
pub fn get(server: &AuthorizationServer, target: &str, headers: &str) -> Answer {
    send(server, &format!("GET {target} HTTP/1.1\r\nhost: as\r\n{headers}\r\n"))
}

/// A form-encoded `POST` as text.
pub fn form(endpoint: Endpoint, headers: &str, parameters: &[(&str, &str)]) -> String {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let (path, length) = (endpoint.path(""), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: as\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// A `POST` of JSON.
pub fn post_json(server: &AuthorizationServer, target: &str, headers: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let length = body.len();
    send(
        server,
        &format!(
            "POST {target} HTTP/1.1\r\nhost: as\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        ),
    )
}

pub fn post(server: &AuthorizationServer, endpoint: Endpoint, parameters: &[(&str, &str)]) -> Answer {
    send(server, &form(endpoint, "", parameters))
}

/// A refresh by the public client, as text.
pub fn refresh_request(server: &AuthorizationServer, refresh_token: &str) -> String {
    let parameters = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client_id()),
        ("refresh_token", refresh_token),
    ];
    form(Endpoint::Token, "", &parameters)
}

pub fn refresh(server: &AuthorizationServer, refresh_token: &str) -> Answer {
    send(server, &refresh_request(server, refresh_token))
}
