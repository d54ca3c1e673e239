//! `vedette`: a table of contents. The environment first, before any thread; then the command line.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let settings = vedette::process_env::prepare();
    vedette::cli::main(settings).into()
}
