//! Operators that slide a window over rows and columns: convolutions, pools, resizes.
//!
//! Owns: their output shapes. Does not know: other operators, values.

use super::Call;

impl Call<'_> {
    /// Output length of each spatial axis.
    fn windows(&self, spatial: &[i64], kernel: &[i64]) -> Option<Vec<i64>> {
        let node = self.node;
        let (strides, dilations, pads) = (node.ints("strides"), node.ints("dilations"), node.ints("pads"));
        let up = node.int("ceil_mode").unwrap_or(0) != 0;
        let auto = node.text("auto_pad").unwrap_or("NOTSET");
        let mut out = Vec::new();
        for (at, (length, kernel)) in spatial.iter().zip(kernel).enumerate() {
            let get = |list: &[i64], at: usize, default| list.get(at).copied().unwrap_or(default);
            let (stride, dilation) = (get(strides, at, 1).max(1), get(dilations, at, 1));
            let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            if auto.starts_with("SAME") {
                out.push(length.checked_add(stride - 1)? / stride);
                continue;
            }
            let pad = get(pads, at, 0).checked_add(get(pads, at + spatial.len(), 0))?;
            let pad = if auto == "VALID" { 0 } else { pad };
            let room = length.checked_add(pad)?.checked_sub(reach).filter(|room| *room >= 0)?;
            let mut steps = room / stride;
            // A last window that would begin in the padding behind is dropped.
            if up && room % stride != 0 && (steps + 1) * stride < length.checked_add(get(pads, at, 0))? {
                steps += 1;
            }
            out.push(steps.checked_add(1)?);
        }
        (out.len() == spatial.len()).then_some(out)
    }

    /// `weight`: which input the weights are.
    pub(super) fn conv(&self, weight: usize) -> Option<Vec<i64>> {
        let ([batch, _, spatial @ ..], [out, _, kernel @ ..]) = (self.dims(0)?, self.dims(weight)?) else {
            return None;
        };
        let mut dims = vec![*batch, *out];
        dims.extend(self.windows(spatial, kernel)?);
        Some(dims)
    }

    pub(super) fn pool(&self) -> Option<Vec<i64>> {
        let [batch, channels, spatial @ ..] = self.dims(0)? else { return None };
        if self.node.int("channels_last").unwrap_or(0) != 0 {
            return None;
        }
        let mut dims = vec![*batch, *channels];
        dims.extend(self.windows(spatial, self.node.ints("kernel_shape"))?);
        Some(dims)
    }

    pub(super) fn global_pool(&self) -> Option<Vec<i64>> {
        let last = self.node.int("channels_last").unwrap_or(0) != 0;
        let dims = self.dims(0)?;
        let kept = |at: usize| at == 0 || at == if last { dims.len() - 1 } else { 1 };
        Some(dims.iter().enumerate().map(|(at, n)| if kept(at) { *n } else { 1 }).collect())
    }

    pub(super) fn conv_transpose(&self) -> Option<Vec<i64>> {
        let ([batch, _, spatial @ ..], [_, out, kernel @ ..]) = (self.dims(0)?, self.dims(1)?) else {
            return None;
        };
        let node = self.node;
        let get = |name, at: usize, default| node.ints(name).get(at).copied().unwrap_or(default);
        let mut dims = vec![*batch, out.checked_mul(node.int("group").unwrap_or(1))?];
        let asked = node.ints("output_shape");
        for (at, (length, kernel)) in spatial.iter().zip(kernel).enumerate() {
            let stride = get("strides", at, 1);
            let same = node.text("auto_pad").is_some_and(|pad| pad.starts_with("SAME"));
            dims.push(if asked.len() == spatial.len() {
                asked[at]
            } else if same {
                length.checked_mul(stride)?
            } else {
                let reach = kernel.checked_sub(1)?.checked_mul(get("dilations", at, 1))?.checked_add(1)?;
                let pads = get("pads", at, 0).checked_add(get("pads", at + spatial.len(), 0))?;
                let body = length.checked_sub(1)?.checked_mul(stride)?.checked_add(reach)?;
                body.checked_add(get("output_padding", at, 0))?.checked_sub(pads)?
            });
        }
        Some(dims)
    }

    /// By `sizes`, else by `scales` (constants of the file).
    pub(super) fn resize(&self) -> Option<Vec<i64>> {
        let dims = self.dims(0)?;
        let part = self.node.attribute("axes").is_some();
        if let Some(sizes) = self.ints(3).filter(|sizes| !part && sizes.len() == dims.len()) {
            return Some(sizes.to_vec());
        }
        let attribute = self.node.attribute("scales").map(|a| a.floats.clone());
        let scales = attribute.or_else(|| {
            self.floats(if self.node.op_type() == "Upsample" || self.opset < 11 { 1 } else { 2 })
        })?;
        if part || scales.len() != dims.len() || !scales.iter().all(|s| (1e-6..1e6).contains(s)) {
            return None;
        }
        Some(
            dims.iter().zip(scales).map(|(n, scale)| (*n as f64 * f64::from(scale)).floor() as i64).collect(),
        )
    }
}
