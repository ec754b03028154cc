//! One file for each command: gather, call, print.

pub mod doctor;
pub mod exec;
pub mod git_credential;
pub mod git_setup;
pub mod helper;
pub mod login;
pub mod logout;
pub mod migrate;
pub mod profiles;
pub mod refresh;
pub mod status;
pub mod token;
pub mod whoami;
