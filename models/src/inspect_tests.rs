//! Counts against what is published of real networks.

use super::*;

fn real(file: &str, size: Option<(usize, usize)>) -> Option<Inspection> {
    let Some(data) = std::env::var_os("VEDETTE_DATA") else {
        eprintln!("skipped: VEDETTE_DATA is not set");
        return None;
    };
    let path = Path::new(&data).join("models").join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(inspect(&path, InspectOptions { size }).unwrap())
}

/// 3.81 M parameters and 4.2 GFLOPs, two of them a MAC, by the table of the NanoDet authors.
#[test]
fn nanodet_is_as_large_as_published() {
    let Some(float) = real("nanodet_g_416_u8in_fp32.onnx", None) else { return };
    let Some(int8) = real("nanodet_g_416_u8in_int8.onnx", None) else { return };
    assert_eq!((float.form, int8.form), ("fp32", "u8s8"));
    assert!((3_750_000..3_870_000).contains(&float.parameters), "{}", float.parameters);
    let macs = float.macs.unwrap();
    assert!((2_000_000_000..2_200_000_000).contains(&macs), "{macs}");
    assert_eq!(int8.macs, Some(macs));
    assert_eq!(int8.outputs, float.outputs);
    assert_eq!(float.outputs[1].shape, ["1", "3549", "80"]);
    assert!(float.unknown_ops.is_empty() && int8.quantised_share.unwrap() > 0.9);
}

#[test]
fn open_axes_wait_for_a_size() {
    let Some(open) = real("efficientnet_lite0_block10_fp32.onnx", None) else { return };
    assert_eq!((open.macs, open.peak_activation_bytes), (None, None));
    assert_eq!(open.inputs[0].shape, ["n", "3", "h", "w"]);
    let Some(closed) = real("efficientnet_lite0_block10_fp32.onnx", Some((224, 192))) else { return };
    assert_eq!(closed.inputs[0].shape, ["1", "3", "192", "224"]);
    assert!(closed.macs.is_some() && closed.peak_activation_bytes <= closed.total_activation_bytes);
}
