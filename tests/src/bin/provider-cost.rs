//! `provider-cost LIBRARY MODELS MODEL PROVIDER FORM [BASE-FORM]`: what a model costs on a provider, in one form, beside
//! another form on the CPU provider of the same library. One JSON object on stdout.
//!
//! A program of its own since an ONNX Runtime of another distribution needs that distribution's loader, and since a
//! process opens one library only. Owns: the interleaved measurement. Does not know: what may cost how much;
//! `tests/it/providers.rs` does.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use vedette_models::{Form, Manifest, Network, NetworkOptions, Provider, Runtime};

/// Measured turns of each network, one after the other: what else the machine does meets both.
const TURNS: usize = 15;
/// Inferences of one turn.
const INFERENCES: u32 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(found) => {
            println_json(&found);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log_error(&*error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is the program's one result")]
fn println_json(found: &Value) {
    println!("{found}");
}

#[expect(clippy::print_stderr, reason = "this is the program's one error")]
fn log_error(error: &dyn Error) {
    eprintln!("{error}");
}

fn run(arguments: &[String]) -> Result<Value, Box<dyn Error>> {
    let [library, models, model, provider, form, base @ ..] = arguments else {
        return Err("usage: provider-cost LIBRARY MODELS MODEL PROVIDER FORM [BASE-FORM]".into());
    };
    let runtime = Runtime::load(Some(&PathBuf::from(library)), &[])?;
    let manifest = Manifest::load(&[PathBuf::from(models)], model)?;
    let open = |provider: Provider, form: Form| -> Result<Network, Box<dyn Error>> {
        let options = NetworkOptions { providers: vec![provider], ..NetworkOptions::default() };
        let mut network = Network::open(runtime, &manifest.clone().only(form)?, &options)?;
        // What it looks at makes no difference: no kernel's work depends on the values.
        network.write(&vec![114; network.input().len()]);
        Ok(network)
    };
    let mut accelerated = open(provider.parse()?, form.parse()?)?;
    let mut base = base.first().map(|form| open(Provider::Cpu, form.parse()?)).transpose()?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        own.push(turn(&mut accelerated)?);
        if let Some(base) = &mut base {
            others.push(turn(base)?);
        }
    }
    Ok(json!({
        "report": accelerated.report(),
        "cpu_ms": median(own),
        "base_cpu_ms": (!others.is_empty()).then(|| median(others)),
    }))
}

/// Processor time (user and system, all threads) of one inference, in ms.
fn turn(network: &mut Network) -> Result<f64, Box<dyn Error>> {
    let before = processor_ms();
    for _ in 0..INFERENCES {
        network.infer()?;
    }
    Ok((processor_ms() - before) / f64::from(INFERENCES))
}

fn processor_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
