//! What a camera's bytes go through behind the parser, as a function of bytes, for a fuzz target and for the tests
//! below. Built for both alone.
//!
//! Owns: what must hold of any bytes. Does not know: where they come from, GStreamer.

use std::sync::Arc;

use vedette_core::{Moment, Mono, Polygon, Pts, Range};

use crate::decode::Outlet;
use crate::libav::LibavDecoder;
use crate::nal::NalReader;
use crate::{Codec, Decoder, FaultClass, LoopFilter, Masks, Packet, Skip, StreamInfo};

/// Frames that may wait at once, as [`Decoder::frames`] promises.
const WAITING: usize = 4;

/// A stream: one byte of choices (codec, loop filter, what is skipped), then packets of two bytes of length, of which
/// the top bit says keyframe, and as many bytes as are there. The left half is masked.
///
/// # Panics
/// Where the decoder breaks what it promises.
pub fn libav_decode(bytes: &[u8]) {
    let Some((choices, mut rest)) = bytes.split_first() else { return };
    let codec = if choices & 1 == 0 { Codec::H264 } else { Codec::H265 };
    let loop_filter = if choices & 2 == 0 { LoopFilter::Skip } else { LoopFilter::Full };
    let half = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]].map(Into::into).to_vec();
    let Ok(half) = Polygon::new(half) else { unreachable!("half a picture is a polygon") };
    let masks = Masks::new(vec![half]);
    let mut decoder = match LibavDecoder::open(codec, loop_filter, &masks, Outlet::new()) {
        Ok(decoder) => decoder,
        Err(fault) => unreachable!("libavcodec decodes H.264 and H.265: {fault}"),
    };
    if choices & 4 != 0 {
        decoder.set_skip(Skip::NonKey);
    }
    let caps = String::new();
    let stream = Arc::new(StreamInfo { codec, profile: None, width: 0, height: 0, fps: None, caps });
    let mut reader = NalReader::default();
    let mut pts = 0;
    while let Some(([low, high], behind)) = rest.split_first_chunk().map(|(l, r)| (*l, r)) {
        let length = usize::from(u16::from_le_bytes([low, high & 0x7f])).min(behind.len());
        let (data, behind) = behind.split_at(length);
        rest = behind;
        let keyframe = high & 0x80 != 0;
        let packet = Packet {
            data: data.into(),
            stream_pts: None,
            reference: None,
            arrival: Mono::default(),
            keyframe,
            droppable: reader.droppable(codec, data),
            stream: Arc::clone(&stream),
        };
        pts += 40_000_000;
        let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_nanos(pts));
        if let Err(fault) = decoder.push(&packet, moment) {
            assert_eq!(fault.class, FaultClass::Undecodable, "{fault}");
            return;
        }
        take(&decoder);
    }
    decoder.flush();
    assert!(decoder.frames().is_empty());
}

/// Every byte of every plane can be read, and none behind the mask is seen.
fn take(decoder: &LibavDecoder) {
    assert!(decoder.frames().len() <= WAITING);
    for frame in decoder.frames().try_iter() {
        let black = if frame.range() == Range::Full { 0 } else { 16 };
        for (index, plane) in (0..3).map_while(|n| frame.plane(n)).enumerate() {
            let rows = (0..plane.height).map(|y| plane.row(y));
            rows.for_each(|row| {
                std::hint::black_box(row.iter().fold(0, |all, byte| all ^ byte));
                let hidden = &row[..plane.width / 2];
                assert!(index > 0 || hidden.iter().all(|&luma| luma == black), "{frame:?}");
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{encoded, encoder};

    /// Streams of both codecs as the function above takes them.
    static STREAMS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
        [Codec::H264, Codec::H265].map(|codec| {
            let small = encoder(codec, "ball").replace("width=320,height=240", "width=64,height=64");
            let mut stream = vec![u8::from(codec == Codec::H265)];
            for packet in encoded(codec, &small, 6) {
                let key = if packet.keyframe { 0x8000 } else { 0 };
                let length = u16::try_from(packet.data.len()).unwrap() | key;
                stream.extend(length.to_le_bytes());
                stream.extend_from_slice(&packet.data);
            }
            stream
        })
    });

    #[test]
    fn whole_streams_pass() {
        STREAMS.iter().for_each(|stream| libav_decode(stream));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_streams_are_survived(
            h265: bool, choices in 0_u8..4, turned in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            end in any::<prop::sample::Index>(),
        ) {
            let mut stream = STREAMS[usize::from(h265)].clone();
            stream[0] |= choices << 1;
            for (at, byte) in turned {
                let at = 1 + at.index(stream.len() - 1);
                stream[at] = byte;
            }
            stream.truncate(1 + end.index(stream.len()));
            libav_decode(&stream);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            libav_decode(&bytes);
        }
    }
}
