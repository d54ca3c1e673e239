//! Tests of a network that is replaced while it serves. What is built slowly is another form of the model on the CPU
//! provider: there is no TensorRT here.

use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::detector::tests::{manifest, runtime};
use crate::provider::Form;

const MODEL: &str = "nanodet-g-416";

/// A network of the fp32 form and one of the int8 form in the making, which waits for a word.
fn with_upgrade() -> Option<(Network, Sender<Result<(), String>>)> {
    let runtime = runtime()?;
    let options = NetworkOptions::default();
    let origin = manifest(MODEL).only(Form::Fp32).unwrap();
    if !origin.forms().any(|(form, file)| form == Form::Fp32 && origin.has(file)) {
        eprintln!("skipped: the fp32 file is not there; set VEDETTE_DATA");
        return None;
    }
    let mut network = Network::open(runtime, &origin, &options).unwrap();
    let (go, gate) = channel::<Result<(), String>>();
    let build = move || {
        gate.recv().map_err(|e| e.to_string())??;
        let better = Network::open(runtime, &manifest(MODEL).only(Form::U8s8).unwrap(), &options);
        better.map(Box::new).map_err(|e| e.to_string())
    };
    network.report.registrations.insert(
        0,
        Registration { provider: Provider::TensorRt, refused: Some("its engine is being built".to_owned()) },
    );
    network.upgrade = Some(Upgrade::start("slow", build).unwrap());
    Some((network, go))
}

fn serve(network: &mut Network) -> Vec<OutputMean> {
    network.golden_means(2_654_435_761).unwrap()
}

/// Serves until what is in the making is there.
fn serve_until_built(network: &mut Network) -> Vec<OutputMean> {
    loop {
        let means = serve(network);
        if network.upgrade.is_none() {
            return means;
        }
    }
}

#[test]
fn the_next_provider_serves_until_the_engine_is_built_then_it_takes_over() {
    let Some((mut network, go)) = with_upgrade() else { return };
    let (serving, before) = (network.serving(), network.sha256().to_owned());
    let slow = serve(&mut network);
    assert_eq!((serving.now().sha256, serving.now().report.form), (before.clone(), Form::Fp32));
    go.send(Ok(())).unwrap();
    let fast = serve_until_built(&mut network);
    assert_eq!((network.report().form, serving.now().report.form), (Form::U8s8, Form::U8s8));
    assert!(network.sha256() != before && serving.now().sha256 == network.sha256());
    for (slow, fast) in slow.iter().zip(&fast) {
        assert!((slow.mean - fast.mean).abs() <= 0.15 * slow.mean.abs(), "{slow:?} and {fast:?}");
    }
}

#[test]
fn where_the_engine_cannot_be_built_the_other_serves_on_and_the_report_says_why() {
    let Some((mut network, go)) = with_upgrade() else { return };
    let (serving, before) = (network.serving(), network.sha256().to_owned());
    go.send(Err("out of memory".to_owned())).unwrap();
    serve_until_built(&mut network);
    assert_eq!(network.sha256(), before);
    let report = serving.now().report;
    assert_eq!(report.registrations[0].refused.as_deref(), Some("out of memory"));
    assert_eq!(report.provider(), "cpu");
}

#[test]
fn nothing_is_built_where_tensorrt_does_not_register() {
    let Some(runtime) = runtime() else { return };
    let tensorrt = TensorRtOptions { background: true, ..TensorRtOptions::default() };
    let providers = vec![Provider::TensorRt, Provider::Cpu];
    let options = NetworkOptions { providers, tensorrt, ..NetworkOptions::default() };
    let network = Network::open(runtime, &manifest(MODEL), &options).unwrap();
    assert!(network.upgrade.is_none());
    let [refused, used] = network.report().registrations.as_slice() else {
        panic!("{:?}", network.report().registrations)
    };
    assert!(refused.provider == Provider::TensorRt && refused.refused.is_some());
    assert!(used.provider == Provider::Cpu && used.refused.is_none());
}

#[test]
fn with_strict_a_provider_that_could_not_be_measured_is_an_error() {
    let report = ProviderReport {
        runtime: String::new(),
        form: Form::U8s8,
        requested: vec![Provider::Cpu],
        registrations: vec![Registration { provider: Provider::Cpu, refused: None }],
        shares: Vec::new(),
    };
    assert!(judge(&manifest(MODEL), &report, &[Provider::Cpu], false).is_ok());
    let error = judge(&manifest(MODEL), &report, &[Provider::Cpu], true).unwrap_err().to_string();
    assert!(error.contains("could not be measured"), "{error}");
}
