//! The pages that a browser shows. They contain nothing from a request or a server.

/// A page for a person.
#[derive(Clone, Copy)]
pub enum Page {
    /// The code came.
    Granted,
    /// The server refused.
    Refused,
    /// Something came that is no answer to this login.
    Foreign,
}

const STYLE: &str = ":root{color-scheme:light dark}\
    body{font:1.1em/1.5 system-ui,sans-serif;max-width:30em;margin:20vh auto 0;padding:0 1.5em}\
    h1{font-size:1.4em;font-weight:600;margin:0 0 .5em}p{margin:0;opacity:.8}";

/// The page has no script, no picture, and loads nothing. Its address contains the code, so the browser sends it to no server
/// as a referrer, and no cache stores it.
const HEADERS: &str = "Content-Type: text/html; charset=utf-8\r\n\
    Cache-Control: no-store\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Connection: close\r\n";

/// A whole answer with a page.
pub fn answer(status: u16, page: Page) -> Vec<u8> {
    let (heading, text) = match page {
        Page::Granted => {
            ("You can close this tab", "onegrant has the answer of the server. The terminal shows the rest.")
        }
        Page::Refused => ("Nothing was granted", "The terminal shows why. You can close this tab."),
        Page::Foreign => (
            "This is not the answer to the login",
            "It may be of an earlier one. The login still waits: go on in the tab that was opened last, or with the \
             address in the terminal.",
        ),
    };
    whole(
        status,
        &format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>onegrant: {heading}</title>\n\
             <style>{STYLE}</style>\n<h1>{heading}</h1>\n<p>{text}</p>\n</html>\n"
        ),
    )
}

/// A whole answer without a page: for programs.
pub fn status_alone(status: u16) -> Vec<u8> {
    whole(status, "")
}

fn whole(status: u16, body: &str) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "",
    };
    // RFC 9110 section 15.5.6
    let allow = if status == 405 { "Allow: GET\r\n" } else { "" };
    format!("HTTP/1.1 {status} {reason}\r\n{HEADERS}{allow}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
