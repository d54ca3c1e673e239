//! Whether an access unit may be left out: the two header fields of H.264 and H.265 that say so. Everything else
//! about bit streams is the parser's business.

use crate::Codec;

/// Reads the first slice header of each access unit; remembers how many temporal layers an H.265 stream has.
#[derive(Debug, Default)]
pub(crate) struct NalReader {
    top_layer: u8,
}

impl NalReader {
    /// Whether no other picture refers to this access unit (Annex B). False where the headers do not say.
    pub(crate) fn droppable(&mut self, codec: Codec, access_unit: &[u8]) -> bool {
        match codec {
            Codec::H264 => nals(access_unit).find_map(h264_droppable).unwrap_or(false),
            Codec::H265 => self.h265_droppable(access_unit),
            Codec::Mjpeg => false,
        }
    }

    fn h265_droppable(&mut self, access_unit: &[u8]) -> bool {
        for nal in nals(access_unit) {
            let [first, second, rest @ ..] = nal else { continue };
            let kind = first >> 1 & 0x3f;
            match kind {
                // Sub-layer non-reference pictures are the even types up to RSV_VCL_N14 (H.265 table 7-1). Pictures
                // of a higher temporal layer may refer to them, so only those of the top layer can go.
                0..=31 => {
                    return kind <= 14 && kind % 2 == 0 && (second & 7).saturating_sub(1) >= self.top_layer;
                }
                // Sequence parameter set: 4 bits of id, 3 bits of sps_max_sub_layers_minus1.
                33 => self.top_layer = rest.first().map_or(0, |b| b >> 1 & 7),
                _ => {}
            }
        }
        false
    }
}

fn h264_droppable(nal: &[u8]) -> Option<bool> {
    let header = nal.first()?;
    matches!(header & 0x1f, 1..=5).then_some(header >> 5 & 3 == 0)
}

/// The first bytes of the NAL units of Annex B data: from behind each start code to the end of the data.
fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let at = rest.windows(3).position(|code| code == [0, 0, 1])?;
        rest = &rest[at + 3..];
        Some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_pictures_stay() {
        struct Case(Codec, &'static [u8], bool);
        let cases = [
            Case(Codec::H264, &[0, 0, 0, 1, 0x09, 0x30, 0, 0, 1, 0x41, 0x9a], false),
            Case(Codec::H264, &[0, 0, 0, 1, 0x09, 0x30, 0, 0, 1, 0x01, 0x9a], true),
            Case(Codec::H264, &[0, 0, 0, 1, 0x67, 0, 0, 1, 0x65, 0x88], false),
            Case(Codec::H265, &[0, 0, 1, 0x02, 0x01], false),
            Case(Codec::H265, &[0, 0, 1, 0x00, 0x01], true),
            Case(Codec::H265, &[0, 0, 1, 0x26, 0x01], false),
            Case(Codec::Mjpeg, &[0xff, 0xd8], false),
            Case(Codec::H264, &[], false),
            Case(Codec::H265, &[0, 0, 1], false),
        ];
        for Case(codec, data, expected) in cases {
            assert_eq!(NalReader::default().droppable(codec, data), expected, "{codec} {data:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(0_u8..4, 0..64), tail in proptest::num::u8::ANY) {
            let mut reader = NalReader::default();
            let data = [&data[..], &[tail]].concat();
            for codec in Codec::ALL {
                reader.droppable(codec, &data);
            }
        }
    }

    #[test]
    fn lower_temporal_layers_stay() {
        let mut reader = NalReader::default();
        let sps_of_two_layers = [0, 0, 1, 0x42, 0x01, 0x03, 0, 0, 1, 0x26, 0x01];
        assert!(!reader.droppable(Codec::H265, &sps_of_two_layers));
        assert!(!reader.droppable(Codec::H265, &[0, 0, 1, 0x00, 0x01]), "layer 0 of 2");
        assert!(reader.droppable(Codec::H265, &[0, 0, 1, 0x00, 0x02]), "layer 1 of 2");
    }
}
