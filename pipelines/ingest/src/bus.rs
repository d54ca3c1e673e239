//! What GStreamer's messages mean. Pure: the table of `facts` on how `rtspsrc` 1.22 reports what happens to a
//! camera, as code. Does not know pipelines or threads.

use gstreamer as gst;
use gstreamer::glib;

use crate::route::Left;
use crate::source::Target;
use crate::{Fault, FaultClass, Transport};

/// What a pipeline had seen when the message came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// A packet came through.
    pub(crate) packets: bool,
    /// The camera offered a video stream that is received.
    pub(crate) video: bool,
    /// That stream was set up and reached a depayloader.
    pub(crate) linked: bool,
}

/// The class of an error of a receive pipeline. `debug` is what the element adds for developers.
pub(crate) fn classify(error: &glib::Error, debug: &str, seen: Seen) -> FaultClass {
    use gst::{CoreError, ResourceError, StreamError};
    let text = error.message();
    if let Some(kind) = error.kind::<ResourceError>() {
        return match kind {
            ResourceError::NotAuthorized => FaultClass::Auth,
            // How some cameras say that the account is locked or may not watch: trying on keeps it locked.
            ResourceError::Read if detail(text, debug).ends_with(" (403)") => FaultClass::Auth,
            ResourceError::NotFound => FaultClass::NotFound,
            ResourceError::OpenRead | ResourceError::OpenWrite | ResourceError::OpenReadWrite => {
                if text.contains("Timeout") || debug.contains("Timeout") {
                    FaultClass::Timeout
                } else if seen.packets {
                    FaultClass::Read
                } else {
                    FaultClass::Refused
                }
            }
            ResourceError::Settings => FaultClass::Codec,
            _ => FaultClass::Read,
        };
    }
    if let Some(kind) = error.kind::<StreamError>() {
        return match kind {
            StreamError::CodecNotFound | StreamError::WrongType | StreamError::TypeNotFound => {
                FaultClass::Codec
            }
            StreamError::Failed if debug.contains("not-linked") || debug.contains("not-negotiated") => {
                FaultClass::Codec
            }
            StreamError::Failed => FaultClass::Read,
            _ => FaultClass::Undecodable,
        };
    }
    match error.kind::<CoreError>() {
        Some(CoreError::MissingPlugin) => FaultClass::MissingElement,
        Some(CoreError::Negotiation | CoreError::Caps | CoreError::Pad) => FaultClass::Codec,
        _ => FaultClass::Read,
    }
}

/// What an error says, for people. `rtspsrc` calls an RTSP status that it has no word for "Unhandled error" and puts
/// the status on the last line of its debug text: `Service Unavailable (503)`.
pub(crate) fn detail<'a>(text: &'a str, debug: &'a str) -> &'a str {
    match debug.lines().last() {
        Some(status) if text == "Unhandled error" && is_status(status) => status,
        _ => text,
    }
}

/// Whether a text ends with a number in brackets, as RTSP's reasons do here.
fn is_status(text: &str) -> bool {
    let number = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")).map(|(_, number)| number);
    number.is_some_and(|n| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The fault of a class at a camera, in words. `detail` is GStreamer's own text.
pub(crate) fn fault_of(class: FaultClass, target: &Target, detail: &str, seen: Seen) -> Fault {
    if let Some(local) = &target.local {
        return local.fault(class, detail);
    }
    let at = &target.shown;
    let (what, remedy) = match class {
        FaultClass::Refused => (
            format!("{at} refuses the connection"),
            "check that the camera is on and that address and port are right".to_owned(),
        ),
        FaultClass::Timeout => {
            (format!("{at} does not answer"), "check power, cable and routing of the camera".to_owned())
        }
        FaultClass::Auth if target.user.is_none() => (
            format!("{at} asks for a login"),
            "set `user` and `password` of this camera in vedette.secrets".to_owned(),
        ),
        FaultClass::Auth => (
            format!("{at} refuses user and password"),
            "correct them in vedette.secrets; too many attempts lock some cameras for minutes".to_owned(),
        ),
        FaultClass::NotFound => (
            format!("{at} has no such stream"),
            "check the path: `vedette probe URL` tries one, the camera's manual has it".to_owned(),
        ),
        FaultClass::Codec | FaultClass::Transport => codec_words(target, detail, seen),
        FaultClass::Tls => (
            format!("{at}: {detail}"),
            "switch RTSPS on in the camera and check the port, or use rtsp://".to_owned(),
        ),
        FaultClass::Read if seen.packets => {
            (format!("{at} closed the connection ({detail})"), "trying again".to_owned())
        }
        FaultClass::Read if is_status(detail) => (
            format!("{at} answers {detail}"),
            "restart the camera if it stays so; some serve only a few viewers at once".to_owned(),
        ),
        FaultClass::Read => (
            format!("{at} accepts connections but gives no answer ({detail})"),
            "restart the camera if it stays so".to_owned(),
        ),
        FaultClass::Ended => (format!("{at} ended the stream"), "trying again".to_owned()),
        FaultClass::Stalled => (format!("{at} sends nothing more"), "trying again".to_owned()),
        FaultClass::Undecodable => (
            format!("{at} sends no decodable stream ({detail})"),
            "restart the camera if it stays so".to_owned(),
        ),
        FaultClass::MissingElement => (
            format!("{at} needs a plugin that is not installed ({detail})"),
            "run `vedette doctor`".to_owned(),
        ),
        FaultClass::BadUrl => (format!("{at}: {detail}"), "write it as rtsp://HOST[:PORT]/PATH".to_owned()),
    };
    Fault::new(class, what, remedy)
}

/// A host name that has no address. It may have one again soon: of the link, as a connection that nobody takes.
pub(crate) fn unresolved(target: &Target) -> Fault {
    Fault::new(
        FaultClass::Refused,
        format!("{}: the name `{}` has no address", target.shown, target.host),
        "check its spelling and this machine's DNS",
    )
}

/// The way RTP was asked for brings nothing: `what` happened. The other way is next, where that is left open; else it is
/// a fault of class `fixed`.
fn no_way(target: &Target, what: &str, fixed: FaultClass) -> Fault {
    let (at, way) = (&target.shown, target.transport);
    let name = |way: Transport| way.as_str().to_uppercase();
    let Some(route) = &target.route else {
        let other = if way == Transport::Udp { "tcp" } else { "udp" };
        let remedy = if target.tls {
            // Datagrams beside `rtsps` are not encrypted.
            "choose TCP (interleaved) in the camera".to_owned()
        } else {
            format!("set `transport = \"{other}\"`, or leave `transport` out")
        };
        return Fault::new(fixed, format!("{at} {what}"), remedy);
    };
    match route.fails(way) {
        Left::Other(next) | Left::Again(next) => {
            Fault::new(FaultClass::Transport, format!("{at} {what}"), format!("trying {}", name(next)))
        }
        Left::Neither => Fault::new(
            FaultClass::Codec,
            format!("{at} gives a stream neither by TCP nor by UDP: at last it {what}"),
            "allow TCP (interleaved) in the camera, or let UDP from it through the firewall between",
        ),
    }
}

/// RTP over this transport is refused (461).
pub(crate) fn refused_way(target: &Target) -> Fault {
    let what = format!("refuses to send over {}", target.transport.as_str().to_uppercase());
    no_way(target, &what, FaultClass::Codec)
}

/// Datagrams were promised and none has come: a firewall, or a camera that stands still, which passes.
pub(crate) fn no_datagrams(target: &Target) -> Fault {
    no_way(target, "promises to send over UDP, but nothing arrives", FaultClass::Stalled)
}

/// What does not fit, and what would.
fn codec_words(target: &Target, detail: &str, seen: Seen) -> (String, String) {
    let at = &target.shown;
    if seen.video {
        (
            format!("{at} sends a stream that does not fit the pipeline ({detail})"),
            "leave `pipeline` out, or change the camera's codec".to_owned(),
        )
    } else {
        (
            format!("{at} offers no video stream that this pipeline takes ({detail})"),
            "choose H.264, H.265 or MJPEG in the camera's settings, and leave `pipeline` out".to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst::{CoreError, ResourceError, StreamError};

    #[test]
    fn an_rtsp_status_is_told() {
        let debug = "gstrtspsrc.c(6954): gst_rtspsrc_send (): /GstPipeline:p/GstRTSPSrc:s:\nService Unavailable (503)";
        assert_eq!(detail("Unhandled error", debug), "Service Unavailable (503)");
        assert_eq!(detail("Could not read", debug), "Could not read");
        assert_eq!(detail("Unhandled error", "gstrtspsrc.c(6954): x:\nno status (here)"), "Unhandled error");
    }

    #[test]
    fn one_transport_after_the_other_is_tried_where_that_is_left_open() {
        let config =
            crate::SourceConfig { transport: Transport::Auto, ..crate::testing::config("rtsp://cam/1") };
        let target = || Target::new(&config).unwrap();
        let fault = refused_way(&target());
        assert_eq!(fault.to_string(), "transport: rtsp://cam/1 refuses to send over TCP; trying UDP");
        let fault = no_datagrams(&target());
        assert!(fault.is_configuration() && fault.message.contains("neither by TCP nor by UDP"), "{fault}");
        config.route.works(Transport::Udp);
        let again = [no_datagrams(&target()), refused_way(&target()), no_datagrams(&target())];
        assert!(
            again.iter().all(|fault| fault.class == FaultClass::Transport),
            "what has worked may work again"
        );
        let secure =
            crate::SourceConfig { transport: Transport::Auto, ..crate::testing::config("rtsps://cam/1") };
        let fault = refused_way(&Target::new(&secure).unwrap());
        assert_eq!(
            (fault.class, fault.remedy.as_str()),
            (FaultClass::Codec, "choose TCP (interleaved) in the camera")
        );
    }

    #[test]
    fn messages_of_rtspsrc_have_a_class() {
        struct Case(glib::Error, &'static str, bool, FaultClass);
        let error = |kind: ResourceError, text: &str| glib::Error::new(kind, text);
        let cases = [
            Case(error(ResourceError::NotAuthorized, "Unauthorized"), "", false, FaultClass::Auth),
            Case(error(ResourceError::NotFound, "Not found"), "", false, FaultClass::NotFound),
            Case(
                error(ResourceError::OpenReadWrite, "Failed to connect. (Generic error)"),
                "",
                false,
                FaultClass::Refused,
            ),
            Case(error(ResourceError::OpenReadWrite, "Could not open"), "", true, FaultClass::Read),
            Case(
                error(ResourceError::OpenReadWrite, "Timeout while waiting for server response"),
                "",
                false,
                FaultClass::Timeout,
            ),
            Case(error(ResourceError::Read, "Could not receive"), "", false, FaultClass::Read),
            Case(
                error(ResourceError::Read, "Unhandled error"),
                "gstrtspsrc.c(6954): gst_rtspsrc_send (): /GstPipeline:p/GstRTSPSrc:s:\nForbidden (403)",
                false,
                FaultClass::Auth,
            ),
            Case(
                error(ResourceError::Read, "Unhandled error"),
                "gstrtspsrc.c(6954): gst_rtspsrc_send (): /GstPipeline:p/GstRTSPSrc:s:\nService Unavailable (503)",
                false,
                FaultClass::Read,
            ),
            Case(glib::Error::new(StreamError::CodecNotFound, "No stream"), "", false, FaultClass::Codec),
            Case(
                glib::Error::new(StreamError::Failed, "Internal data stream error"),
                "streaming stopped, reason not-linked (-1)",
                false,
                FaultClass::Codec,
            ),
            Case(glib::Error::new(CoreError::MissingPlugin, "x"), "", false, FaultClass::MissingElement),
        ];
        for Case(error, debug, packets, expected) in cases {
            assert_eq!(
                classify(&error, debug, Seen { packets, video: true, linked: true }),
                expected,
                "{error} {debug}"
            );
        }
    }
}
