//! The agent and the gateway without the command line, for tests and for trying things out.

use std::path::PathBuf;
use std::process::ExitCode;

use platform_gateway::{LogTarget, Options};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "agent" => platform_process::serve(arguments),
        Some(word) if word == "gateway" => gateway(arguments),
        _ => ExitCode::from(64),
    }
}

fn gateway(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut options = Options::default();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let path = Some(PathBuf::from(value));
        match name.to_str() {
            Some("--state") => options.state = path,
            Some("--admin") => options.admin = path,
            Some("--handover") => options.handover = path,
            Some("--access-log") => options.access_log = LogTarget::Stdout,
            _ => return ExitCode::from(64),
        }
    }
    let ran = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(platform_gateway::run(options)));
    match ran {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
