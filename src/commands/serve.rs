//! `onegrant serve`: a broker in the foreground, for a supervisor and for `ssh -R`.

use crate::adapters::broker::server::Entrance;
use crate::broker::Service;
use crate::broker::listener::Listener;
use crate::cli;
use crate::cli::ServeAddress;
use crate::error::{Failure, Kind};
use crate::output::say;
use crate::profile::Context;
use crate::text::{describe, printable};

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
    let profile = context.globals.profile.as_str().to_owned();
    say(&format!("onegrant: serving profile {profile} at {}\n", printable(&listener.place.text())));
    let entrance = Entrance { key: None, port: None, profile };
    let service = Service { entrance, shape: None, globals: &context.globals, command: None };
    service.run(listener).map_err(|error| {
        Failure::new(Kind::Temporary, format!("cannot serve any longer: {}", describe(&error))).into()
    })
}
