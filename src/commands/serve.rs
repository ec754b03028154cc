//! `onegrant serve`: a broker in the foreground, for a supervisor and for `ssh -R`.

use crate::adapters::broker::server::Entrance;
use crate::broker::Service;
use crate::broker::listener::Listener;
use crate::cli;
use crate::cli::ServeAddress;
use crate::error::{Failure, Kind};
use crate::output::say;
use crate::profile::{Context, brokered};
use crate::system::end_signals;
use crate::text::{describe, printable};
use std::io;

/// Serves until a signal comes. Without a session, too: a person may log in at any time.
pub fn run(arguments: &cli::Serve, context: &Context) -> anyhow::Result<()> {
    let listener = match (Listener::given()?, &arguments.socket) {
        (Some(listener), _) => listener,
        (None, Some(path)) => Listener::bind(&ServeAddress::File(path.clone()))?,
        (None, None) => {
            let message = "serve needs a socket: onegrant serve --socket PATH";
            return Err(Failure::new(Kind::Usage, message).hint("onegrant serve --help").into());
        }
    };
    let signals = end_signals().map_err(|error| failed(&error))?;
    let globals = brokered::named(&context.globals);
    let profile = globals.known_profile().to_owned();
    let shown = match profile.as_str() {
        "" => "the profile of another broker".to_owned(),
        name => format!("profile {name}"),
    };
    say(&format!("onegrant: serving {shown} at {}\n", printable(&listener.place.text())));
    let entrance = Entrance { key: None, port: None, profile };
    let service = Service { entrance, shape: None, globals: &globals, command: None };
    Ok(service.run(listener, &signals).map_err(|error| failed(&error))?)
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(Kind::Temporary, format!("cannot serve any longer: {}", describe(error)))
}
