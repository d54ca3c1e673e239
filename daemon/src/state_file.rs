//! Small JSON files that survive a power cut: replaced as a whole, or set aside when damaged.
//!
//! Owns: how they are written and read. Does not know: what is in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces `directory/name` so that after a power cut either the old or the new content is there, whole: new file,
/// fsync, rename, fsync of the directory.
pub(crate) fn replace(directory: &Path, name: &str, content: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(content)?;
    let fresh = directory.join(format!("{name}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// Reads `directory/name`; none where it is not there. A damaged one is renamed to `name.corrupt-<now>`, with one
/// line in the log, and treated as not there: a state file must never keep an appliance from watching.
pub(crate) fn read<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
    now: jiff::Timestamp,
) -> io::Result<Option<T>> {
    let path = directory.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damage = match serde_json::from_slice(&bytes) {
        Ok(content) => return Ok(Some(content)),
        Err(damage) => damage,
    };
    let aside = format!("{name}.corrupt-{}", now.as_second());
    fs::rename(&path, directory.join(&aside))?;
    log::error!(
        "state file {} is damaged ({damage}): set aside as {aside}, a new one begins",
        path.display()
    );
    Ok(None)
}
