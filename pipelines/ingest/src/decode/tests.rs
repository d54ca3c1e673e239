//! Decoders over real streams: every one there is, and what they have in common.

use super::*;
use crate::testing::{self, PATIENCE, encoded, encoder, moment};
use crate::{Codec, Masks};
use vedette_core::{Matrix, Polygon, Range};

/// All there are of a codec, by name.
fn names(codec: Codec) -> Vec<String> {
    let gst = format!("decode-{}", codec.as_str());
    let all = ["libav".to_owned(), gst, "auto".to_owned()];
    all.into_iter().filter(|name| codec != Codec::Mjpeg || name != "libav").collect()
}

fn config(name: &str) -> DecoderConfig {
    DecoderConfig { decoder: DecoderChoice::of(name), ..DecoderConfig::default() }
}

fn open(name: &str, packets: &[Packet], masks: &Masks) -> Box<dyn Decoder> {
    config(name).open(&testing::descriptions(), &packets[0].stream, masks).unwrap()
}

/// Pushes packets 40 ms apart from `start`, taking frames as they come, until `count` of them came.
fn run(decoder: &mut dyn Decoder, packets: &[Packet], start: u64, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (n, packet) in (start..).zip(packets) {
        decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
        frames.extend(decoder.frames().try_iter());
    }
    while frames.len() < count {
        frames.push(decoder.frames().recv_timeout(PATIENCE).unwrap());
    }
    frames
}

#[test]
fn every_codec_gives_its_frames_with_their_moments() {
    for codec in Codec::ALL {
        let packets = encoded(codec, &encoder(codec, "white"), 30);
        for name in names(codec) {
            let mut decoder = open(&name, &packets, &Masks::none());
            let frames = run(&mut *decoder, &packets, 0, 30);
            for (n, frame) in frames.iter().enumerate() {
                assert_eq!(frame.moment().pts, Pts::from_nanos(n as u64 * 40_000_000), "{codec} {name}");
                assert_eq!(frame.is_keyframe(), packets[n].keyframe, "{codec} {name}");
                assert_eq!((frame.width(), frame.height()), (320, 240), "{codec} {name}");
                assert!(frame.plane(0).unwrap().row(120).iter().all(|&v| v > 220), "{codec} {name}: white");
            }
            assert_eq!(decoder.dropped(), 0);
        }
    }
}

#[test]
fn masked_parts_are_black() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 3);
    let square = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]].map(Into::into).to_vec();
    let masks = Masks::new(vec![vedette_core::Polygon::new(square).unwrap()]);
    for name in names(Codec::H264) {
        for frame in run(&mut *open(&name, &packets, &masks), &packets, 0, 3) {
            let luma = frame.plane(0).unwrap();
            assert!(luma.row(60)[..160].iter().all(|&v| v == 16));
            assert!(luma.row(60)[170..].iter().all(|&v| v > 220) && luma.row(180).iter().all(|&v| v > 220));
            assert!(frame.plane(1).unwrap().row(30)[..80].iter().all(|&v| v == 128));
        }
    }
}

#[test]
fn the_resolution_may_change_in_the_stream() {
    let small = encoded(Codec::H264, &encoder(Codec::H264, "white"), 10);
    let large = encoder(Codec::H264, "white").replace("width=320,height=240", "width=640,height=360");
    let large = encoded(Codec::H264, &large, 10);
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &small, &Masks::none());
        assert_eq!(run(&mut *decoder, &small, 0, 10)[9].width(), 320);
        let frames = run(&mut *decoder, &large, 10, 10);
        assert_eq!((frames[0].width(), frames[0].height(), frames[9].width()), (640, 360, 640));
        assert_eq!(frames[0].plane(2).unwrap().width, 320);
    }
}

#[test]
fn the_oldest_frames_go_and_are_counted_when_nobody_takes_them() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 30);
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
        }
        let mut last = decoder.frames().recv_timeout(PATIENCE).unwrap();
        let mut taken = 1;
        while last.moment().pts < Pts::from_nanos(29 * 40_000_000) {
            last = decoder.frames().recv_timeout(PATIENCE).unwrap();
            taken += 1;
        }
        assert_eq!(taken + decoder.dropped(), 30);
        assert!(decoder.dropped() >= 20, "{} dropped", decoder.dropped());
    }
}

#[test]
fn after_a_flush_an_earlier_keyframe_may_come() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 30);
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &packets, &Masks::none());
        run(&mut *decoder, &packets, 0, 30);
        decoder.flush();
        let frames = run(&mut *decoder, &packets, 0, 30);
        assert_eq!(frames.first().map(|f| f.moment().pts), Some(Pts::ZERO));
        assert_eq!(frames.len(), 30);
    }
}

#[test]
fn keyframes_alone_come_out_at_once() {
    let source = encoder(Codec::H264, "ball").replace("key-int-max=25", "key-int-max=5");
    let packets = encoded(Codec::H264, &source, 30);
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets).filter(|(_, p)| p.keyframe) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            let frame = decoder.frames().recv_timeout(PATIENCE).unwrap();
            assert_eq!(frame.moment().pts, Pts::from_nanos(n * 40_000_000));
        }
    }
}

#[test]
fn b_frames_come_out_in_the_order_of_display() {
    let source = encoder(Codec::H264, "ball")
        .replace("tune=zerolatency speed-preset=ultrafast", "bframes=2 b-adapt=false speed-preset=medium");
    let packets = encoded(Codec::H264, &source, 30);
    assert!(packets.iter().any(|p| p.droppable), "some B-frames are not referred to");
    assert!(packets.windows(2).any(|w| w[1].stream_pts < w[0].stream_pts));
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &packets, &Masks::none());
        let mut frames = Vec::new();
        for packet in &packets {
            decoder.push(packet, moment(Pts::from_nanos(packet.stream_pts.unwrap()))).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        while frames.len() < 24 {
            frames.push(decoder.frames().recv_timeout(PATIENCE).unwrap());
        }
        for pair in frames.windows(2) {
            assert_eq!(pair[1].moment().pts.since(pair[0].moment().pts), Duration::from_millis(40));
        }
    }
}

#[test]
fn noise_is_survived() {
    let mut packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 60);
    for packet in &mut packets[5..20] {
        let noise: Vec<u8> =
            packet.data.iter().enumerate().map(|(n, b)| if n > 8 { b ^ 0x5a } else { *b }).collect();
        packet.data = noise.into();
    }
    for name in names(Codec::H264) {
        let mut decoder = open(&name, &packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
        }
        let mut last = Pts::ZERO;
        while last < Pts::from_nanos(59 * 40_000_000) {
            last = decoder.frames().recv_timeout(PATIENCE).unwrap().moment().pts;
        }
    }
}

/// Every visible sample, plane after plane.
fn samples(frame: &Frame) -> Vec<u8> {
    let planes = (0..3).filter_map(|plane| frame.plane(plane));
    planes.flat_map(|plane| (0..plane.height).flat_map(move |y| plane.row(y).to_vec())).collect()
}

fn full(masks: &Masks, packets: &[Packet]) -> Box<dyn Decoder> {
    let config = DecoderConfig { loop_filter: LoopFilter::Full, ..config("libav") };
    config.open(&testing::descriptions(), &packets[0].stream, masks).unwrap()
}

/// Two decoders give the same pictures, and say the same of them.
fn assert_same(ours: &[Frame], theirs: &[Frame], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()), "{what}");
        assert_eq!((ours.range(), ours.matrix()), (theirs.range(), theirs.matrix()), "{what}");
        assert_eq!((ours.format(), ours.moment()), (theirs.format(), theirs.moment()), "{what}");
        assert!((ours.pixel_aspect() - theirs.pixel_aspect()).abs() < 1e-6, "{what}");
        assert!(samples(ours) == samples(theirs), "{what}: the pictures differ");
    }
}

#[test]
fn with_the_loop_filter_libav_is_gstreamers_decoder_to_the_bit() {
    struct Case(&'static str, &'static str, Range, Matrix, f32);
    let cases = [
        Case("width=320,height=240", "", Range::Limited, Matrix::Bt601, 1.0),
        Case("width=1280,height=720", "", Range::Limited, Matrix::Bt709, 1.0),
        Case("width=640,height=640", "", Range::Limited, Matrix::Bt709, 1.0),
        Case("width=322,height=242", "", Range::Limited, Matrix::Bt601, 1.0),
        Case("width=320,height=240", ",colorimetry=bt709", Range::Limited, Matrix::Bt709, 1.0),
        Case("width=1280,height=720", ",colorimetry=bt601", Range::Limited, Matrix::Bt601, 1.0),
        Case("width=320,height=240", ",colorimetry=1:4:0:0", Range::Full, Matrix::Bt601, 1.0),
        Case("width=704,height=576", ",pixel-aspect-ratio=16/11", Range::Limited, Matrix::Bt601, 16.0 / 11.0),
    ];
    for codec in [Codec::H264, Codec::H265] {
        for Case(size, tags, range, matrix, aspect) in &cases {
            let what = format!("{codec} {size}{tags}");
            let source = encoder(codec, "ball").replace("width=320,height=240", &format!("{size}{tags}"));
            let packets = encoded(codec, &source, 12);
            let ours = run(&mut *full(&Masks::none(), &packets), &packets, 0, 12);
            let gst = format!("decode-{}", codec.as_str());
            let theirs = run(&mut *open(&gst, &packets, &Masks::none()), &packets, 0, 12);
            assert_same(&ours, &theirs, &what);
            assert_eq!((ours[0].range(), ours[0].matrix()), (*range, *matrix), "{what}");
            assert!((ours[0].pixel_aspect() - aspect).abs() < 1e-4, "{what}: {}", ours[0].pixel_aspect());
        }
    }
}

#[test]
fn without_the_loop_filter_pictures_hardly_differ() {
    let source = encoder(Codec::H264, "ball")
        .replace("speed-preset=ultrafast", "speed-preset=medium pass=qual quantizer=36");
    let packets = encoded(Codec::H264, &source, 25);
    let filtered = run(&mut *full(&Masks::none(), &packets), &packets, 0, 25);
    let skipped = run(&mut *open("libav", &packets, &Masks::none()), &packets, 0, 25);
    let mut differ = false;
    for (a, b) in filtered.iter().zip(&skipped) {
        let (a, b) = (samples(a), samples(b));
        let squares: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        differ |= squares > 0.0;
        let psnr = 10.0 * (255.0_f64.powi(2) * a.len() as f64 / squares.max(1.0)).log10();
        assert!(psnr > 35.0, "{psnr} dB");
    }
    assert!(differ, "the filter is skipped");
}

/// A masked picture is the decoder's copy: painting in place would be predicted from, and black smear over the picture.
#[test]
fn a_mask_neither_smears_nor_lets_anything_through() {
    let square = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]].map(Into::into).to_vec();
    let masks = Masks::new(vec![Polygon::new(square).unwrap()]);
    for codec in [Codec::H264, Codec::H265] {
        let packets = encoded(codec, &encoder(codec, "ball"), 60);
        let bare = run(&mut *open("libav", &packets, &Masks::none()), &packets, 0, 60);
        let masked = run(&mut *open("libav", &packets, &masks), &packets, 0, 60);
        let mut hidden = 0;
        for (n, (bare, masked)) in bare.iter().zip(&masked).enumerate() {
            let (bare, masked) = (bare.plane(0).unwrap(), masked.plane(0).unwrap());
            for y in 0..240 {
                for x in 0..320 {
                    let inside = (80..240).contains(&x) && (60..180).contains(&y);
                    let expected = if inside { 16 } else { bare.row(y)[x] };
                    assert_eq!(masked.row(y)[x], expected, "{codec}, frame {n} at {x},{y}");
                    hidden += usize::from(inside && bare.row(y)[x] > 200);
                }
            }
        }
        assert!(hidden > 1000, "the ball went behind the mask");
    }
}

#[test]
fn lent_pictures_outlive_their_decoder_and_stay_as_they_were() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 50);
    let mut decoder = open("libav", &packets, &Masks::none());
    let mut frames = run(&mut *decoder, &packets[..3], 0, 3);
    let before: Vec<_> = frames.iter().map(samples).collect();
    run(&mut *decoder, &packets[3..], 3, 47);
    decoder.flush();
    drop(decoder);
    assert!(frames.iter().map(samples).eq(before));
    let kept = frames.pop().unwrap();
    let clone = kept.clone();
    drop((frames, kept));
    assert_eq!(samples(&clone).len(), 320 * 240 * 3 / 2);
}

fn with_description(text: &str) -> (tempfile::TempDir, Descriptions) {
    testing::init();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("device.toml"), text).unwrap();
    let descriptions =
        Descriptions::load(&[testing::descriptions_folder(), folder.path().to_owned()]).unwrap();
    (folder, descriptions)
}

const DEVICE: &str = "about = 'x'\nkind = 'decode'\ncodec = 'h264'\nrank = 10\nhardware = true\n";

#[test]
fn libav_takes_over_from_a_device_that_fails() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 100);
    let decode = "avdec_h264 max-threads=1 ! video/x-raw,format=I420 ! appsink name=out";
    let lame = [
        ("nothing comes", format!("appsrc name=in ! identity drop-probability=1 ! {decode}")),
        ("fails at once", format!("appsrc name=in ! identity error-after=1 ! {decode}")),
        ("fails on the way", format!("appsrc name=in ! identity error-after=6 ! {decode}")),
        ("does not open", format!("appsrc name=in ! identity nonsense=6 ! {decode}")),
    ];
    for (what, launch) in lame {
        let (_folder, descriptions) =
            with_description(&format!("{DEVICE}requires = []\nlaunch = '{launch}'"));
        let mut decoder = open_decoder(&descriptions, &packets[0].stream, &Masks::none()).unwrap();
        let frames = run(&mut *decoder, &packets, 0, 0);
        let times: Vec<u64> = frames.iter().map(|f| f.moment().pts.nanos() / 40_000_000).collect();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{what}: {times:?}");
        // The one that gives nothing is found out after 50 packets: at worst from the keyframe before on, of which
        // four frames wait.
        assert!(times.ends_with(&(51..100).collect::<Vec<_>>()), "{what}: {times:?}");
        if what != "nothing comes" {
            assert!(times.len() + usize::try_from(decoder.dropped()).unwrap() >= 99, "{what}: {times:?}");
        }
    }
}

#[test]
fn a_device_that_hangs_holds_nobody_up() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 30);
    let decode = "avdec_h264 max-threads=1 ! video/x-raw,format=I420 ! appsink name=out";
    // Over an hour: it never ends.
    let launch = format!("appsrc name=in ! identity sleep-time=4000000000 ! {decode}");
    let (_folder, descriptions) = with_description(&format!("{DEVICE}requires = []\nlaunch = '{launch}'"));
    for behind in [false, true] {
        let leaked = crate::leaked_pipelines();
        let mut decoder = open_decoder(&descriptions, &packets[0].stream, &Masks::none()).unwrap();
        let mut frames = Vec::new();
        for (n, packet) in (0..).zip(&packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            if behind {
                decoder.settle().unwrap();
            }
            frames.extend(decoder.frames().try_iter());
        }
        assert_eq!(frames.len(), 30, "{behind}");
        assert!(crate::leaked_pipelines() > leaked, "{behind}");
    }
}

#[test]
fn a_device_that_works_goes_before_libav() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 30);
    // Recognised by its size.
    let launch = "appsrc name=in ! avdec_h264 max-threads=1 ! videoscale ! video/x-raw,format=I420,width=32 ! \
                  appsink name=out";
    let (_folder, descriptions) = with_description(&format!("{DEVICE}requires = []\nlaunch = '{launch}'"));
    let mut decoder = open_decoder(&descriptions, &packets[0].stream, &Masks::none()).unwrap();
    assert!(run(&mut *decoder, &packets, 0, 30).iter().all(|f| f.width() == 32));
    let absent = format!("{DEVICE}requires = ['nodec']\nlaunch = '{launch}'");
    let (_folder, descriptions) = with_description(&absent);
    let mut decoder = open_decoder(&descriptions, &packets[0].stream, &Masks::none()).unwrap();
    assert!(run(&mut *decoder, &packets, 0, 30).iter().all(|f| f.width() == 320));
    assert_eq!(descriptions.missing_elements(), [], "a device that is not there is nothing wrong");
}

#[test]
fn what_libav_cannot_give_gstreamer_converts() {
    let source = encoder(Codec::H264, "white").replace("format=I420", "format=Y42B");
    let packets = encoded(Codec::H264, &source, 30);
    let frames = run(&mut *open("auto", &packets, &Masks::none()), &packets, 0, 30);
    assert!(frames.iter().all(|f| f.format() == vedette_core::PixelFormat::I420));
    let mut alone = open("libav", &packets, &Masks::none());
    let fault = packets.iter().find_map(|p| alone.push(p, moment(Pts::ZERO)).err()).unwrap();
    assert!(fault.to_string().contains("YUV422P") && fault.to_string().contains("`decoder`"), "{fault}");
}

#[test]
fn a_configured_decoder_must_be_there_and_fit() {
    let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 1);
    let descriptions = testing::descriptions();
    for (name, expected) in [("decode-h265", "H.264"), ("nonsense", "there are: "), ("rtsp-h264", "of kind")]
    {
        let opened = config(name).open(&descriptions, &packets[0].stream, &Masks::none());
        let fault = opened.err().unwrap();
        assert!(fault.is_configuration() && fault.to_string().contains(expected), "{fault}");
    }
    assert!(DecoderChoice::of("nonsense").check(&descriptions).is_err());
    assert!(DecoderChoice::of("decode-h265").check(&descriptions).is_ok());
}

#[test]
fn what_is_passed_over_leaves_the_rest_whole() {
    let source = encoder(Codec::H264, "ball").replace(
        "tune=zerolatency speed-preset=ultrafast key-int-max=25",
        "bframes=2 b-adapt=false b-pyramid=false speed-preset=medium key-int-max=25",
    );
    let packets = encoded(Codec::H264, &source, 100);
    let time = |packet: &Packet| Pts::from_nanos(packet.stream_pts.unwrap());
    let at = |frame: &Frame| packets.iter().position(|p| time(p) == frame.moment().pts).unwrap();
    for name in names(Codec::H264) {
        let mut bare = open(&name, &packets, &Masks::none());
        let mut all = Vec::new();
        let mut decoder = open(&name, &packets, &Masks::none());
        let mut seen = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            bare.push(packet, moment(time(packet))).unwrap();
            all.extend(bare.frames().try_iter());
            decoder.set_skip(match n {
                0..30 => Skip::NonReference,
                30..60 => Skip::NonKey,
                _ => Skip::None,
            });
            decoder.push(packet, moment(time(packet))).unwrap();
            seen.extend(decoder.frames().try_iter());
            if name != "decode-h264" && (30..60).contains(&n) && packet.keyframe {
                assert_eq!(seen.last().map(at), Some(n), "{name}: a keyframe alone comes out at once");
            }
        }
        while seen.last().is_none_or(|frame| at(frame) < 90) {
            seen.push(decoder.frames().recv_timeout(PATIENCE).unwrap());
        }
        while all.last().is_none_or(|frame| at(frame) < 90) {
            all.push(bare.frames().recv_timeout(PATIENCE).unwrap());
        }
        for frame in &seen {
            let n = at(frame);
            assert!(n >= 30 || !packets[n].droppable, "{name}: {n}");
            assert!(!(30..75).contains(&n) || packets[n].keyframe, "{name}: {n} needs pictures passed over");
            let whole = all.iter().find(|whole| at(whole) == n);
            assert!(whole.is_none_or(|whole| samples(whole) == samples(frame)), "{name}: {n} is broken");
        }
    }
}

#[test]
fn at_the_end_nothing_is_held_back() {
    let source = encoder(Codec::H264, "ball").replace(
        "tune=zerolatency speed-preset=ultrafast key-int-max=25",
        "bframes=2 b-adapt=false b-pyramid=false speed-preset=medium key-int-max=25",
    );
    let packets = encoded(Codec::H264, &source, 40);
    let time = |packet: &Packet| Pts::from_nanos(packet.stream_pts.unwrap());
    let mut decoder = open("libav", &packets, &Masks::none());
    // The same decoder begins again after a flush.
    for _ in 0..2 {
        let mut frames = Vec::new();
        for packet in &packets {
            decoder.push(packet, moment(time(packet))).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        assert!(frames.len() < 40, "some are held back");
        loop {
            let before = frames.len();
            decoder.finish().unwrap();
            frames.extend(decoder.frames().try_iter());
            if frames.len() == before {
                break;
            }
        }
        let mut times: Vec<_> = packets.iter().map(time).collect();
        times.sort();
        assert_eq!(frames.iter().map(|frame| frame.moment().pts).collect::<Vec<_>>(), times);
        decoder.flush();
    }
}

/// Bytes from a network: cut, flipped and out of order, in both codecs.
#[test]
fn hostile_bytes_neither_stop_nor_kill_it() {
    let mut random = 7_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap()
    };
    for codec in [Codec::H264, Codec::H265] {
        let good = encoded(codec, &encoder(codec, "ball"), 50);
        let mut decoder = open("libav", &good, &Masks::none());
        for n in 0..600_u64 {
            let mut packet = good[next() % good.len()].clone();
            let mut data = packet.data.to_vec();
            for _ in 0..next() % 8 {
                let at = next() % data.len();
                data[at] ^= u8::try_from(next() & 0xff).unwrap();
            }
            data.truncate(next() % 3 * data.len() + next() % data.len());
            packet.data = data.into();
            decoder.push(&packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            if n % 97 == 0 {
                decoder.flush();
            }
            decoder.frames().try_iter().for_each(|frame| assert!(!samples(&frame).is_empty()));
        }
        decoder.flush();
        assert_eq!(run(&mut *decoder, &good, 1000, 50).len(), 50, "{codec}");
    }
}

/// Bytes in the middle of packets turned over; libavcodec's H.265 decoder does not tell.
#[test]
fn damage_is_counted_and_no_fault() {
    for codec in [Codec::H264, Codec::H265] {
        let packets = encoded(codec, &encoder(codec, "snow"), 30);
        let mut decoder = open("libav", &packets, &Masks::none());
        run(&mut *decoder, &packets, 0, 30);
        assert_eq!(decoder.damaged(), 0, "{codec}: whole packets");
        decoder.flush();
        for (n, packet) in (0..).zip(&packets) {
            let mut packet = packet.clone();
            if n % 10 == 5 {
                let middle = packet.data.len() / 2;
                let mut data = packet.data.to_vec();
                data[middle..middle + 200].iter_mut().for_each(|byte| *byte = !*byte);
                packet.data = data.into();
            }
            decoder.push(&packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            decoder.frames().try_iter().for_each(drop);
        }
        assert!(codec == Codec::H265 || decoder.damaged() > 0, "{codec}: damaged packets");
    }
}
