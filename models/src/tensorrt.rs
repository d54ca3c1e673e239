//! TensorRT's settings and its kept engines: a build takes minutes, so what was built once is kept by what it was
//! built for. Not run on hardware.
//!
//! Owns: the folder of engines and timings, and its key: hardware, versions, model file, precision. Does not know:
//! sessions, what an engine is (ONNX Runtime writes and reads it).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::ep;

/// How TensorRT shall run a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRtOptions {
    /// May compute in 16-bit floats; default true.
    pub fp16: bool,
    /// May compute in int8, which the S8S8 form needs; default true.
    pub int8: bool,
    /// Scratch memory of a build, in MiB; default: what TensorRT takes, all of the device's.
    pub workspace_mib: Option<usize>,
    /// Where engines and timings are kept, a folder for nothing else; default none: they are built at each start.
    pub cache: Option<PathBuf>,
    /// Where TensorRT is wished first and no engine is kept: build it in a thread, and let the next provider serve
    /// meanwhile; default false: opening waits for it. With `strict` it always waits.
    pub background: bool,
}

impl Default for TensorRtOptions {
    fn default() -> Self {
        Self { fp16: true, int8: true, workspace_mib: None, cache: None, background: false }
    }
}

impl TensorRtOptions {
    /// The provider, keeping its engines in `engines`.
    pub(crate) fn provider(&self, engines: Option<&Path>) -> ep::TensorRT {
        let mut provider = ep::TensorRT::default().with_fp16(self.fp16).with_int8(self.int8);
        if let Some(mib) = self.workspace_mib {
            provider = provider.with_max_workspace_size(mib.saturating_mul(1 << 20));
        }
        match engines {
            Some(folder) => provider
                .with_engine_cache(true)
                .with_engine_cache_path(folder.display())
                .with_timing_cache(true)
                .with_timing_cache_path(folder.display()),
            None => provider,
        }
    }

    /// The folder of the engines of a model file; none where none are kept. Only right once the provider has been
    /// registered: TensorRT's version is that of the library which this loads.
    pub(crate) fn engines(&self, runtime_version: &str, sha256: &str) -> Option<Engines> {
        let machine = machine(Path::new("/"), runtime_version);
        Some(Engines { folder: self.cache.as_ref()?.join(machine).join(self.key(sha256)) })
    }

    fn key(&self, sha256: &str) -> String {
        let precision = [("-fp16", self.fp16), ("-int8", self.int8)];
        let suffix: String = precision.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
        format!("{}{suffix}", sha256.get(..16).unwrap_or(sha256))
    }
}

/// A folder that holds all engines of one model file for one machine, or does not exist.
pub(crate) struct Engines {
    folder: PathBuf,
}

/// Engines in the making: in a folder beside the one they will be in, so that one half written is never read.
pub(crate) struct Build {
    making: PathBuf,
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Engines {
    pub(crate) fn are_kept(&self) -> bool {
        self.folder.is_dir()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes room for a build, after the one that this process is at; none where that made these engines. What an
    /// ended process left half done goes, and engines of other hardware or versions, which nobody can use any more.
    pub(crate) fn build(&self) -> std::io::Result<Option<Build>> {
        static BUILDING: Mutex<()> = Mutex::new(());
        let alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.are_kept() {
            return Ok(None);
        }
        if let Some(machine) = self.folder.parent() {
            remove(entries(machine).filter(|path| is_left_behind(path)));
            let others = machine.parent().into_iter().flat_map(entries);
            remove(others.filter(|path| path.as_path() != machine));
        }
        let making = self.folder.with_extension(std::process::id().to_string());
        fs::create_dir_all(&making)?;
        Ok(Some(Build { making, folder: self.folder.clone(), _alone: alone }))
    }
}

impl Build {
    pub(crate) fn making(&self) -> &Path {
        &self.making
    }

    /// All are written: from now on they are found, in the folder returned.
    pub(crate) fn keep(self) -> std::io::Result<PathBuf> {
        fs::rename(&self.making, &self.folder)?;
        Ok(self.folder.clone())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // Kept, it is not there any more.
        let _ = fs::remove_dir_all(&self.making);
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn remove(folders: impl Iterator<Item = PathBuf>) {
    for folder in folders {
        match fs::remove_dir_all(&folder) {
            Ok(()) => log::info!("{} is of no use any more and was removed", folder.display()),
            Err(error) => log::warn!("{} is of no use any more: {error}", folder.display()),
        }
    }
}

/// A build whose process is gone.
fn is_left_behind(path: &Path) -> bool {
    let process = path.extension().and_then(|e| e.to_str()).and_then(|e| e.parse::<u32>().ok());
    process.is_some_and(|id| id != std::process::id() && !Path::new("/proc").join(id.to_string()).exists())
}

/// What engines depend on beside the model: the GPU, TensorRT, ONNX Runtime. As a folder's name.
fn machine(root: &Path, runtime_version: &str) -> String {
    let words = [gpu(root), tensorrt(root), format!("onnxruntime-{runtime_version}")];
    words.map(|word| slug(&word)).join("_")
}

/// The model of the first GPU (bus order), or of the board.
fn gpu(root: &Path) -> String {
    let mut gpus: Vec<_> = entries(&root.join("proc/driver/nvidia/gpus")).collect();
    gpus.sort();
    let card = gpus.iter().find_map(|gpu| {
        let text = fs::read_to_string(gpu.join("information")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix("Model:")?.trim().to_owned()))
    });
    let board = || fs::read_to_string(root.join("proc/device-tree/model")).ok();
    // The board's ends with NUL.
    card.or_else(board)
        .map_or_else(|| "unknown".to_owned(), |name| name.trim_matches(['\0', '\n', ' ']).to_owned())
}

/// The library's file with its whole version, as this process has it open.
fn tensorrt(root: &Path) -> String {
    let maps = fs::read_to_string(root.join("proc/self/maps")).unwrap_or_default();
    let file = maps
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .find(|file| file.starts_with("libnvinfer.so"));
    file.map_or_else(|| "tensorrt-unknown".to_owned(), |file| file.replace("libnvinfer.so.", "tensorrt-"))
}

fn slug(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "a6e1281ec1ca7c6825e807e187b2dce6eaa249798aefa3edf07a82f2c9b9e994";

    fn engines(cache: &Path, version: &str) -> Engines {
        let options = TensorRtOptions { cache: Some(cache.to_owned()), ..TensorRtOptions::default() };
        options.engines(version, SHA).unwrap()
    }

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_key_names_hardware_versions_model_and_precision() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(machine(root.path(), "1.28.0"), "unknown_tensorrt-unknown_onnxruntime-1.28.0");
        file(&root.path().join("proc/device-tree/model"), "NVIDIA Jetson Orin Nano\0");
        file(
            &root.path().join("proc/self/maps"),
            "7f00-7f01 r-xp 0 0 1 /usr/lib/libc.so.6\n7f02-7f03 r-xp 0 0 1 /opt/trt/libnvinfer.so.10.16.1\n",
        );
        let board = machine(root.path(), "1.28.0");
        assert_eq!(board, "nvidia-jetson-orin-nano_tensorrt-10.16.1_onnxruntime-1.28.0");
        for (bus, name) in [("0000:02:00.0", "Second"), ("0000:01:00.0", "NVIDIA RTX A2000")] {
            let text = format!("Model: \t\t {name}\nIRQ:   \t\t 130\n");
            file(&root.path().join("proc/driver/nvidia/gpus").join(bus).join("information"), &text);
        }
        assert!(machine(root.path(), "1.28.0").starts_with("nvidia-rtx-a2000_"));
        let options = TensorRtOptions::default();
        assert_eq!(options.key(SHA), "a6e1281ec1ca7c68-fp16-int8");
        assert_eq!(TensorRtOptions { fp16: false, ..options.clone() }.key(SHA), "a6e1281ec1ca7c68-int8");
        assert!(options.engines("1.28.0", SHA).is_none(), "nothing is kept unless a folder is given");
    }

    #[test]
    fn engines_are_kept_only_once_all_of_them_are_written() {
        let cache = tempfile::tempdir().unwrap();
        let engines = engines(cache.path(), "1.28.0");
        let build = engines.build().unwrap().unwrap();
        fs::write(build.making().join("a.engine"), "half").unwrap();
        drop(build);
        assert!(!engines.are_kept());
        let build = engines.build().unwrap().unwrap();
        assert_eq!(fs::read_dir(build.making()).unwrap().count(), 0, "nothing of the one given up is left");
        fs::write(build.making().join("a.engine"), "whole").unwrap();
        build.keep().unwrap();
        assert_eq!(fs::read_to_string(engines.folder().join("a.engine")).unwrap(), "whole");
        assert!(engines.build().unwrap().is_none(), "there is nothing left to build");
        assert_eq!(fs::read_dir(engines.folder().parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_nobody_can_use_any_more_goes() {
        let cache = tempfile::tempdir().unwrap();
        let old = engines(cache.path(), "1.27.0");
        old.build().unwrap().unwrap().keep().unwrap();
        let new = engines(cache.path(), "1.28.0");
        // Process ids end at 4194304.
        let left = new.folder().with_extension("4194305");
        let another = new.folder().with_file_name("another-fp16");
        fs::create_dir_all(&left).unwrap();
        fs::create_dir_all(&another).unwrap();
        drop(new.build().unwrap());
        assert!(!old.are_kept() && !left.exists());
        assert!(another.exists(), "another model's engines stay");
    }
}
