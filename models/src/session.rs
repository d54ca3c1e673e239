//! Opening a session: who shall run which file, and what happens when somebody will not.
//!
//! Owns: the order of wish and its fall-back. Does not know: frames, boxes, who really runs what (`profile.rs`).

use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::manifest::{FormFile, Manifest};
use crate::network::ModelError;
use crate::onnx::{bounds, check};
use crate::profile::Registration;
use crate::provider::{Form, Provider, Settings, u8s8_saturates};
use crate::quantize::{rectifier, storage};
use crate::runtime::Runtime;
use crate::tensorrt::{Build, Engines, TensorRtOptions};

/// What [`open`] is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub runtime: &'static Runtime,
    pub manifest: &'a Manifest,
    pub providers: &'a [Provider],
    pub threads: usize,
    pub strict: bool,
    pub tensorrt: &'a TensorRtOptions,
}

impl Wish<'_> {
    fn settings<'a>(&'a self, engines: Option<&'a Path>) -> Settings<'a> {
        Settings { threads: self.threads, tensorrt: self.tensorrt, engines }
    }

    /// Why a provider does not even register, where it does not.
    fn registers(&self, provider: Provider) -> Result<(), String> {
        let mut builder = Session::builder(self.runtime.environment()).map_err(|e| one_line(&e))?;
        provider.register(&mut builder, self.settings(None))
    }

    /// The kept engines of this file, or where they would be. Only for a TensorRT that registers.
    fn engines(&self, file: &FormFile) -> Option<Engines> {
        self.tensorrt.engines(self.runtime.version(), &file.sha256)
    }
}

/// Whether opening would take the minutes that TensorRT needs to build its engines, and may be done meanwhile.
pub(crate) fn is_to_be_built(wish: Wish<'_>) -> bool {
    let wished =
        wish.tensorrt.background && !wish.strict && wish.providers.first() == Some(&Provider::TensorRt);
    let form = wish.manifest.form(Provider::TensorRt).filter(|(_, file)| wish.manifest.has(file));
    let Some((_, file)) = form.filter(|_| wished) else { return false };
    wish.registers(Provider::TensorRt).is_ok()
        && !wish.engines(file).is_some_and(|engines| engines.are_kept())
}

/// A session with how it came about.
pub(crate) struct Opened {
    pub session: Session,
    pub form: Form,
    pub sha256: String,
    pub bytes: Vec<u8>,
    /// Those that the session was built with, in order; the CPU provider is always behind them.
    pub providers: Vec<Provider>,
    pub registrations: Vec<Registration>,
    /// Where TensorRT keeps its engines.
    pub engines: Option<PathBuf>,
}

/// Opens the model's file for the first provider of the wish that takes it. Each that does not is logged once and the
/// next one tried; the CPU provider ends every list. `strict` makes the first refusal an error.
pub(crate) fn open(wish: Wish<'_>) -> Result<Opened, ModelError> {
    let mut registrations = Vec::new();
    let mut refuse = |provider: Provider, reason: String| {
        let reason = with_refusal(wish, provider, reason);
        if wish.strict {
            let model = wish.manifest.name().to_owned();
            return Err(ModelError::Provider { model, provider, reason });
        }
        log::warn!(model = wish.manifest.name(), provider = provider.name();
            "{}: provider {provider} is not used: {reason}", wish.manifest.name());
        registrations.push(Registration { provider, refused: Some(reason) });
        Ok(())
    };
    // One form each: of the providers behind the first only those that run the same form join its session.
    for (at, &provider) in wish.providers.iter().enumerate() {
        let Some((form, file)) = wish.manifest.form(provider) else {
            let wanted: Vec<_> = provider.forms().iter().map(|f| f.name()).collect();
            refuse(
                provider,
                format!("the manifest lists no form that it runs well ({})", wanted.join(", ")),
            )?;
            continue;
        };
        if provider == Provider::Cpu {
            break;
        }
        let bytes = match checked(wish.manifest, form, file) {
            Ok(bytes) => bytes,
            Err(error) => {
                refuse(provider, error.to_string())?;
                continue;
            }
        };
        let room = if provider == Provider::TensorRt { Room::of(wish, file) } else { Room::None };
        match with(wish, &wish.providers[at..], (form, &bytes), room.folder()) {
            Ok((session, joined)) => {
                let mut opened = finish(session, joined, form, file, bytes, registrations);
                opened.engines = room.keep();
                return Ok(opened);
            }
            Err(reason) => refuse(provider, reason)?,
        }
    }
    let (form, file) = wish.manifest.form(Provider::Cpu).ok_or_else(|| {
        let model = wish.manifest.name().to_owned();
        let reason = "the manifest lists no form that it runs well".to_owned();
        ModelError::Provider { model, provider: Provider::Cpu, reason }
    })?;
    let bytes = checked(wish.manifest, form, file)?;
    let model = wish.manifest.name();
    let cpu = |_: &mut SessionBuilder| Ok(vec![Provider::Cpu]);
    let (session, providers) = build(wish, &bytes, None, cpu).map_err(|reason| ModelError::Load {
        model: model.to_owned(),
        file: file.file.clone(),
        reason,
    })?;
    Ok(finish(session, providers, form, file, bytes, registrations))
}

/// `reason`, behind the provider's own one where it does not even register: no other file would help then.
fn with_refusal(wish: Wish<'_>, provider: Provider, reason: String) -> String {
    match wish.registers(provider) {
        Err(refusal) if refusal != reason => format!("{refusal}; besides, {reason}"),
        _ => reason,
    }
}

/// A form's bytes, their structure and the sizes of what they compute checked: some damage makes ONNX Runtime end the
/// process or take all memory instead of answering. The check is 5 ms of CPU for the largest shipped file (4.0 MB,
/// Xeon), of 37 for opening it, and 14 ms for 15 MB of fp32; about half of that once the process has the memory.
fn checked(manifest: &Manifest, form: Form, file: &FormFile) -> Result<Vec<u8>, ModelError> {
    let bytes = manifest.bytes(file)?;
    let input = manifest.input_of(form);
    check::read(&bytes, &file.file)
        .and_then(|model| bounds::check(&model, &file.file, Some((input.width, input.height))))
        .map_err(|error| ModelError::File { model: manifest.name().to_owned(), error })?;
    Ok(bytes)
}

/// Where the engines of a session to be opened are read from, or written to.
enum Room {
    None,
    Kept(Engines),
    New(Build),
}

impl Room {
    /// Waits for another build of this process. Without room the engines are built and not kept.
    fn of(wish: Wish<'_>, file: &FormFile) -> Self {
        if wish.registers(Provider::TensorRt).is_err() {
            return Self::None;
        }
        let Some(engines) = wish.engines(file) else { return Self::None };
        match engines.build() {
            Ok(Some(build)) => Self::New(build),
            Ok(None) => Self::Kept(engines),
            Err(error) => {
                log::warn!("TensorRT's engines are not kept: {}: {error}", engines.folder().display());
                Self::None
            }
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Kept(engines) => Some(engines.folder()),
            Self::New(build) => Some(build.making()),
        }
    }

    /// Once the session is there: where its engines are from now on.
    fn keep(self) -> Option<PathBuf> {
        match self {
            Self::None => None,
            Self::Kept(engines) => Some(engines.folder().to_owned()),
            Self::New(build) => {
                build.keep().inspect_err(|error| log::warn!("TensorRT's engines are not kept: {error}")).ok()
            }
        }
    }
}

fn finish(
    session: Session,
    providers: Vec<Provider>,
    form: Form,
    file: &FormFile,
    bytes: Vec<u8>,
    mut registrations: Vec<Registration>,
) -> Opened {
    registrations.extend(providers.iter().map(|&provider| Registration { provider, refused: None }));
    let sha256 = file.sha256.clone();
    Opened { session, form, sha256, bytes, providers, registrations, engines: None }
}

/// A session with the first of `providers`, and those of the others that take the same form and register.
fn with(
    wish: Wish<'_>,
    providers: &[Provider],
    (form, bytes): (Form, &[u8]),
    engines: Option<&Path>,
) -> Result<(Session, Vec<Provider>), String> {
    let same_form = |provider: &Provider| wish.manifest.form(*provider).map(|(f, _)| f) == Some(form);
    build(wish, bytes, None, |builder| {
        let mut joined = Vec::new();
        for provider in providers.iter().copied().filter(same_form) {
            match provider.register(builder, wish.settings(engines)) {
                Ok(()) => joined.push(provider),
                Err(reason) if joined.is_empty() => return Err(reason),
                Err(reason) => log::info!(provider = provider.name(); "{provider} does not join: {reason}"),
            }
        }
        Ok(joined)
    })
}

/// The same session again, writing a profile to files that begin with `profile`.
pub(crate) fn profiled(wish: Wish<'_>, opened: &Opened, profile: &Path) -> Result<Session, String> {
    let (session, _) = build(wish, &opened.bytes, Some(profile), |builder| {
        let settings = wish.settings(opened.engines.as_deref());
        opened.providers.iter().try_for_each(|provider| provider.register(builder, settings))?;
        Ok(opened.providers.clone())
    })?;
    Ok(session)
}

/// A session with those that `register` says it has registered. All optimisations (without them int8 runs 5 times
/// slower), spinning off (it costs 2.5 to 7 times the CPU at camera rates), and what these providers want besides.
fn build(
    wish: Wish<'_>,
    bytes: &[u8],
    profile: Option<&Path>,
    register: impl FnOnce(&mut SessionBuilder) -> Result<Vec<Provider>, String>,
) -> Result<(Session, Vec<Provider>), String> {
    let prepare = || -> ort::Result<SessionBuilder> {
        let builder = Session::builder(wish.runtime.environment())?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_log_id(wish.manifest.name())?;
        match profile {
            Some(path) => Ok(builder.with_profiling(path)?),
            None => Ok(builder),
        }
    };
    let mut builder = prepare().map_err(|e| one_line(&e))?;
    let registered = register(&mut builder)?;
    let settle = |builder: SessionBuilder| -> ort::Result<SessionBuilder> {
        let threads = Provider::session_threads(&registered, wish.threads);
        let mut builder = builder.with_intra_threads(threads)?;
        for (key, value) in Provider::session_entries(&registered, u8s8_saturates()) {
            builder = builder.with_config_entry(key, value)?;
        }
        Ok(builder)
    };
    let mut builder = settle(builder).map_err(|e| one_line(&e))?;
    let mut bytes = storage::expand_bytes(bytes).map_err(|error| error.to_string())?;
    // The CPU provider fuses better as it was; TensorRT fuses the ReLU itself, and wants both nodes round it.
    if registered.contains(&Provider::Xnnpack) && !registered.contains(&Provider::TensorRt) {
        bytes = rectifier::on_integers(bytes);
    }
    let session =
        wish.runtime.first_session(|| builder.commit_from_memory(&bytes)).map_err(|e| one_line(&e))?;
    Ok((session, registered))
}

fn one_line(error: &ort::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}
