//! The crate's only `unsafe`: asks a shared library whether it is an ONNX Runtime, and which (`ort` keeps the version
//! string to itself, and would assert where we want an error); and says that x86-64 has SSE2.
//!
//! Does not know: sessions, models, where libraries are searched for.
#![expect(
    unsafe_code,
    reason = "calls of the C interface before `ort` opens the library; instructions every x86-64 has"
)]

use std::ffi::CStr;
use std::path::Path;

use ort::sys::OrtApiBase;

/// The version that the library at `path` reports, such as `1.28.0`; else why it is none, in one line.
///
/// The library stays open for the life of the process: ONNX Runtime starts threads and cannot be closed safely.
pub(crate) fn version(path: &Path) -> Result<String, String> {
    // SAFETY: opening a library runs its constructors. It is a file that the administrator named or installed as
    // ONNX Runtime, and it is opened once more by `ort` right after.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| one_line(&e))?;
    // SAFETY: `OrtGetApiBase` is the one exported entry point of the C interface, with this signature since 1.0.
    let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase") }
        .map_err(|_| "is no ONNX Runtime (exports no OrtGetApiBase)".to_owned())?;
    // SAFETY: the entry point takes nothing and returns a pointer to a static table, or null.
    let base = unsafe { entry() };
    // SAFETY: the table is static; null is told apart by `as_ref`.
    let Some(base) = (unsafe { base.as_ref() }) else {
        return Err("is an ONNX Runtime that offers no interface".to_owned());
    };
    // SAFETY: returns a static text that ends with NUL, or null.
    let text = unsafe { (base.GetVersionString)() };
    if text.is_null() {
        return Err("is an ONNX Runtime without a version".to_owned());
    }
    // SAFETY: not null (above), ends with NUL and is static by the interface's contract; copied at once.
    let version = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    std::mem::forget(library);
    Ok(version)
}

/// Dot products by SSE2; see [`crate::preprocess::sse2::dot_products`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn dot_products<const N: usize, const SHIFT: i32>(
    line: &[i16],
    starts: &[usize],
    weights: &[[i16; N]],
    result: &mut [i16],
) {
    // SAFETY: the function is safe on any machine with SSE2, which is a part of x86-64.
    unsafe { crate::preprocess::sse2::dot_products::<N, SHIFT>(line, starts, weights, result) }
}

fn one_line(error: &libloading::Error) -> String {
    // Only the source says what the loader said; the outer text is "dlopen failed".
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string()).trim().replace('\n', " ")
}
