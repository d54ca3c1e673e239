//! A user's own `.onnx` becomes a model: what its graph says, what its family usually takes, and a manifest of both.
//!
//! Owns: what is read from the graph, what is assumed beyond it, and putting a model into a folder whole or not at
//! all. Does not know: the command line, where models are kept.

mod habits;
mod install;

use ort::session::Session;
use ort::value::{TensorElementType, ValueType};
use vedette_core::{Class, Role};

pub use self::habits::Habits;
pub use self::install::{Staged, install, sha256};

use crate::families::{self, Guess, InputSize};
use crate::manifest::{ColorOrder, Draft, DraftForm, Element, Fit, InputSpec, Layout, ManifestError};
use crate::network::ModelError;
use crate::onnx::bounds;
use crate::onnx::check::{self, OnnxError};
use crate::provider::Form;
use crate::runtime::Runtime;

/// What the graph cannot say and the user may.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Name in the configuration; the file's stem without.
    pub name: String,
    /// The family's kind; without, the one that the outputs look like.
    pub family: Option<String>,
    /// Labels in the order of the outputs; without, COCO's where their number fits.
    pub labels: Option<Vec<Class>>,
    /// Width and height, where the graph leaves them open.
    pub size: Option<(usize, usize)>,
    /// Order of the channels; without, the family's habit.
    pub color: Option<ColorOrder>,
    /// Subtracted, 0..255, in that order; without, the family's habit.
    pub mean: Option<[f32; 3]>,
    /// Divided by then; without, the family's habit.
    pub std: Option<[f32; 3]>,
    /// How the picture is brought to the input's sides; without, the family's habit.
    pub fit: Option<Fit>,
    /// SPDX expression.
    pub licence: String,
}

/// What an import found.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The manifest, with the file as its fp32 form.
    pub draft: Draft,
    /// Lines for people: what was read, and what was assumed.
    pub findings: Vec<String>,
}

/// Why a file does not become a model.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no model, a damaged one, or one that cannot be used here.
    #[error(transparent)]
    File(#[from] OnnxError),
    /// ONNX Runtime refuses the file.
    #[error("{file}: ONNX Runtime does not open it: {reason}")]
    Load {
        /// The file.
        file: String,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// Its input is no picture.
    #[error(
        "{file}: {found}; a network of one picture is wanted: [1, 3, H, W] or [1, H, W, 3] of u8, i32 or f32"
    )]
    Input {
        /// The file.
        file: String,
        /// What there is.
        found: String,
    },
    /// The graph leaves the size open.
    #[error("{file}: input `{input}` is {found}, its size is open; name it with --size WIDTHxHEIGHT")]
    Size {
        /// The file.
        file: String,
        /// The input.
        input: String,
        /// Its axes.
        found: String,
    },
    /// The size asked for is not the graph's.
    #[error(
        "{file}: input `{input}` takes {found}, not {asked}; leave out --size or export the network anew"
    )]
    OtherSize {
        /// The file.
        file: String,
        /// The input.
        input: String,
        /// The graph's, as `WxH` or its axes.
        found: String,
        /// As `WxH`.
        asked: String,
    },
    /// No family has such outputs.
    #[error("{file}: no family has outputs like these: {outputs}; there are: {known}{hint}")]
    Family {
        /// The file.
        file: String,
        /// Names and axes.
        outputs: String,
        /// Kinds.
        known: String,
        /// What to do.
        hint: String,
    },
    /// A number of labels that cannot be known.
    #[error("{file}: family {kind} has {wanted} labels here, {found}; give --labels FILE with one a line")]
    Labels {
        /// The file.
        file: String,
        /// The family.
        kind: String,
        /// By the outputs.
        wanted: usize,
        /// In words.
        found: String,
    },
    /// Something of that name is there already.
    #[error("{0} is there already; choose another --name, or replace it with --force")]
    Exists(String),
    /// A folder or file that cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A name that cannot be one of a file.
    #[error("`{0}` cannot be a model's name: use a-z, A-Z, 0-9, - and _")]
    Name(String),
    /// A manifest that cannot be written down.
    #[error("the manifest cannot be written: {0}")]
    Text(#[from] toml::ser::Error),
    /// The manifest made is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The model does not open or run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The bytes of a file to import, at most 256 MiB: a larger one is refused before it is in memory.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_model(file: &std::path::Path) -> Result<Vec<u8>, ImportError> {
    Ok(check::bytes(file)?)
}

/// Reads a network's inputs and outputs through ONNX Runtime, and drafts its manifest. Nothing is written.
///
/// # Errors
/// See [`ImportError`]: each says which flag or what other file helps.
pub fn import(
    runtime: &'static Runtime,
    file: &str,
    bytes: &[u8],
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let name = model_name(file, &options.name)?;
    bounds::check(&check::read(bytes, file)?, file, options.size)?;
    let session = open(runtime, file, bytes)?;
    let (mut input, mut findings) = picture(file, &session, options.size)?;
    let outputs: Vec<(String, Vec<i64>)> = (session.outputs().iter())
        .filter_map(|outlet| Some((outlet.name().to_owned(), outlet.dtype().tensor_shape()?.to_vec())))
        .collect();
    let size = InputSize { width: input.width, height: input.height };
    let guess = family(file, &outputs, size, options.family.as_deref(), &mut findings)?;
    let kind = guess.table.get("kind").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let labels = labels(file, &kind, &guess, options.labels.as_deref(), &mut findings)?;
    let habits = Habits::of(&kind, &outputs, input.element);
    habits.apply(&mut input, options, &mut findings);
    let form = DraftForm {
        form: Form::Fp32,
        file: format!("{name}.onnx"),
        sha256: sha256(bytes),
        made: "imported as it was".to_owned(),
        input: None,
        card: None,
    };
    let draft = Draft {
        about: format!("{kind} at {}x{}, imported from {file}", input.width, input.height),
        name,
        role: guess.role,
        licence: options.licence.clone(),
        labels,
        family: guess.table,
        input,
        forms: vec![form],
        upstream: None,
        golden: None,
    };
    Ok(Imported { draft, findings })
}

/// The name asked for, else the file's stem with what a name cannot have as `-`.
fn model_name(file: &str, asked: &str) -> Result<String, ImportError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if asked.is_empty() {
        let stem = file.strip_suffix(".onnx").unwrap_or(file);
        return model_name(file, &stem.replace(|c| !fits(c), "-"));
    }
    if asked.chars().all(fits) && !asked.starts_with('-') {
        return Ok(asked.to_owned());
    }
    Err(ImportError::Name(asked.to_owned()))
}

fn open(runtime: &'static Runtime, file: &str, bytes: &[u8]) -> Result<Session, ImportError> {
    let open = || {
        Session::builder(runtime.environment())
            .and_then(|builder| Ok(builder.with_intra_threads(1)?))
            .and_then(|mut builder| builder.commit_from_memory(bytes))
    };
    runtime.first_session(open).map_err(|e| ImportError::Load {
        file: file.to_owned(),
        reason: e.to_string().trim().replace('\n', " "),
    })
}

/// The input as far as the graph says it; colours and normalisation are the family's.
fn picture(
    file: &str,
    session: &Session,
    asked: Option<(usize, usize)>,
) -> Result<(InputSpec, Vec<String>), ImportError> {
    let wrong = |found: String| ImportError::Input { file: file.to_owned(), found };
    let [only] = session.inputs() else {
        return Err(wrong(format!("it has {} inputs", session.inputs().len())));
    };
    let described = || format!("input `{}` is {}", only.name(), only.dtype());
    let ValueType::Tensor { ty, shape, .. } = only.dtype() else { return Err(wrong(described())) };
    let element = match ty {
        TensorElementType::Uint8 => Element::U8,
        TensorElementType::Int32 => Element::I32,
        TensorElementType::Float32 => Element::F32,
        _ => return Err(wrong(described())),
    };
    let &[batch, a, b, c] = shape.as_ref() else { return Err(wrong(described())) };
    let (layout, height, width) = match (batch, a, c) {
        (1 | -1, 3, _) => (Layout::Nchw, b, c),
        (1 | -1, _, 3) => (Layout::Nhwc, a, b),
        _ => return Err(wrong(described())),
    };
    let (width, height) = size(file, only.name(), shape, (width, height), asked)?;
    let spec = InputSpec {
        name: Some(only.name().to_owned()),
        layout,
        element,
        width,
        height,
        color: ColorOrder::Rgb,
        fit: Fit::default(),
        pad: 114,
        mean: [0.0; 3],
        std: [1.0; 3],
        scale: None,
        zero_point: 0,
        normalisation: String::new(),
    };
    let order = if layout == Layout::Nchw { "channels, rows, columns" } else { "rows, columns, channels" };
    let found = format!("input `{}`: {ty} {:?} ({order})", only.name(), spec.shape());
    Ok((spec, vec![found]))
}

/// The size that the graph states, or the one asked for where it leaves an axis open.
fn size(
    file: &str,
    input: &str,
    shape: &[i64],
    (width, height): (i64, i64),
    asked: Option<(usize, usize)>,
) -> Result<(usize, usize), ImportError> {
    let (file, input, axes) = (file.to_owned(), input.to_owned(), format!("{shape:?}"));
    let stated = |side: i64| usize::try_from(side).ok().filter(|side| *side > 0);
    match (stated(width), stated(height), asked) {
        (Some(w), Some(h), None) => Ok((w, h)),
        (w, h, Some(asked)) if w.is_none_or(|w| w == asked.0) && h.is_none_or(|h| h == asked.1) => Ok(asked),
        (_, _, Some((w, h))) => {
            Err(ImportError::OtherSize { file, input, found: axes, asked: format!("{w}x{h}") })
        }
        _ => Err(ImportError::Size { file, input, found: axes }),
    }
}

/// The likeliest family of such outputs, or the one asked for.
fn family(
    file: &str,
    outputs: &[(String, Vec<i64>)],
    size: InputSize,
    asked: Option<&str>,
    findings: &mut Vec<String>,
) -> Result<Guess, ImportError> {
    let kind = |guess: &Guess| guess.table.get("kind").and_then(toml::Value::as_str).unwrap_or("").to_owned();
    // One picture is asked for at a time: an open batch is 1 here.
    let mut single = outputs.to_vec();
    single.iter_mut().filter_map(|(_, shape)| shape.first_mut()).filter(|n| **n < 0).for_each(|n| *n = 1);
    let mut guesses = families::guess(&single, size);
    if let Some(asked) = asked {
        guesses.retain(|guess| kind(guess) == asked);
    }
    let others: Vec<_> = guesses.iter().skip(1).map(kind).collect();
    let listed: Vec<_> = outputs.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let Some(guess) = guesses.into_iter().next() else {
        let hint = match asked {
            Some(asked) => format!("; `{asked}` was asked for"),
            None => "; export the network so that it ends as one of them does, or write the manifest by hand"
                .into(),
        };
        let known = families::ALL.iter().map(|k| format!("{} ({})", k.name, k.about));
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(ImportError::Family { file: file.to_owned(), outputs: listed.join(", "), known, hint });
    };
    findings.push(format!("outputs: {}", listed.join(", ")));
    let rest = if others.is_empty() {
        String::new()
    } else {
        format!("; could be {} (--family)", others.join(", "))
    };
    findings.push(format!("family: {}{rest}", kind(&guess)));
    Ok(guess)
}

fn labels(
    file: &str,
    kind: &str,
    guess: &Guess,
    given: Option<&[Class]>,
    findings: &mut Vec<String>,
) -> Result<Vec<Class>, ImportError> {
    let wanted = guess.labels;
    let refuse = |found: String| {
        let (file, kind) = (file.to_owned(), kind.to_owned());
        Err(ImportError::Labels { file, kind, wanted, found })
    };
    if guess.role == Role::Features {
        return Ok(Vec::new());
    }
    match (given, habits::labels(guess.role, wanted)) {
        // A family that cannot tell the number from its outputs leaves it to the labels.
        (Some(given), _) if given.len() == wanted || wanted == 0 => Ok(given.to_vec()),
        (Some(given), _) => refuse(format!("the file lists {}", given.len())),
        (None, Some((set, labels))) => {
            findings.push(format!("labels: assumed {set}, {wanted} of them (--labels)"));
            Ok(labels)
        }
        (None, None) => refuse("and their names are not in the file".to_owned()),
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
