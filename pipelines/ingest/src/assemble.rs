//! Which descriptions a receive pipeline is made of, and how it is put together.
//!
//! Owns: the choice of head and tail, the login, the choice of the stream. Does not know: what becomes of packets and
//! messages.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::description::{Description, DescriptionKind};
use crate::receive::Shared;
use crate::source::Target;
use crate::{Codec, Descriptions, Fault, FaultClass, Local, SourceConfig, trust, unpack};

/// Which descriptions make up the pipeline.
pub(crate) struct Plan<'a> {
    /// Of kind `source`; absent where the one tail is a whole pipeline.
    head: Option<&'a Description>,
    tails: Vec<&'a Description>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        config: &SourceConfig,
        target: &Target,
        descriptions: &'a Descriptions,
    ) -> Result<Self, Fault> {
        use DescriptionKind::{Receive, Source};
        let usual = target.local.as_ref().map_or("rtsp", Local::description);
        let chosen = descriptions.of_kind(config.pipeline.as_deref().unwrap_or(usual), &[Receive, Source])?;
        let plan = match (chosen.kind, &chosen.source) {
            (Receive, None) => Self { head: None, tails: vec![chosen] },
            (Receive, Some(head)) => {
                Self { head: Some(descriptions.of_kind(head, &[Source])?), tails: vec![chosen] }
            }
            _ => {
                let tail = |codec: Codec| {
                    let own = descriptions.get(&format!("{}-{}", chosen.name, codec.as_str()));
                    own.or_else(|_| descriptions.get(&format!("rtsp-{}", codec.as_str()))).ok()
                };
                Self { head: Some(chosen), tails: Codec::ALL.into_iter().filter_map(tail).collect() }
            }
        };
        plan.head.map_or(Ok(()), Description::check_elements)?;
        Ok(plan)
    }

    pub(crate) fn build(&self, shared: &Arc<Shared>) -> Result<gst::Pipeline, Fault> {
        let Some(head) = self.head else {
            let tail = self.tails[0];
            tail.check_elements()?;
            shared.video.store(true, Ordering::Relaxed);
            shared.linked.store(true, Ordering::Relaxed);
            let pipeline = pipeline_of(tail.launch(&values(shared), gst::parse::launch)?)?;
            if let Some(source) = pipeline.by_name("source") {
                configure_source(&source, shared)?;
            }
            unpack::attach(pipeline.upcast_ref(), shared)?;
            return Ok(pipeline);
        };
        let pipeline = pipeline_of(head.launch(&values(shared), gst::parse::launch)?)?;
        let source = pipeline.by_name("source").ok_or_else(|| head.lacks("source"))?;
        configure_source(&source, shared)?;
        select_video(&source, shared, self.tails.iter().filter_map(|t| t.codec).collect());
        let tails: Vec<Description> = self.tails.iter().map(|&t| t.clone()).collect();
        let (pipe, shared) = (pipeline.downgrade(), Arc::clone(shared));
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = pipe.upgrade() else { return };
            if let Err(fault) = link_tail(&pipeline, pad, &tails, &shared) {
                shared.end(fault);
            }
        });
        Ok(pipeline)
    }
}

/// What the launch parser gave, as a pipeline: it gives a lone element bare.
fn pipeline_of(element: gst::Element) -> Result<gst::Pipeline, Fault> {
    element.downcast::<gst::Pipeline>().or_else(|element| {
        let pipeline = gst::Pipeline::new();
        let added = pipeline.add(&element);
        added.map(|()| pipeline).map_err(|error| internal(&error))
    })
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        FaultClass::MissingElement,
        format!("a pipeline cannot be built: {error}"),
        "run `vedette doctor`",
    )
}

/// Sets address, login and trust of an RTSP source as properties: they never stand in a text. Other sources (a file, a
/// device) have their own in the launch text.
fn configure_source(source: &gst::Element, shared: &Arc<Shared>) -> Result<(), Fault> {
    let target = &shared.target;
    if let Some(local) = &target.local {
        local.configure(source);
        return Ok(());
    }
    if !(source.has_property("location") && source.has_property("protocols")) {
        return Ok(());
    }
    source.set_property("location", &target.location);
    if let Some(user) = target.user.as_ref().filter(|_| source.has_property("user-id")) {
        source.set_property("user-id", user);
    }
    if let Some(password) = target.password.as_ref().filter(|_| source.has_property("user-pw")) {
        source.set_property("user-pw", password.reveal());
    }
    trust::configure(source, shared)
}

/// Lets `rtspsrc` set up the first video stream alone: audio and metadata cost the camera bandwidth for nothing.
fn select_video(source: &gst::Element, shared: &Arc<Shared>, codecs: Vec<Codec>) {
    if gst::glib::subclass::SignalId::lookup("select-stream", source.type_()).is_none() {
        shared.video.store(true, Ordering::Relaxed);
        return;
    }
    let shared = Arc::clone(shared);
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
        let (media, encoding) = caps.as_ref().map_or((None, None), rtp_fields);
        let known = encoding.as_deref().and_then(Codec::of_rtp).is_some_and(|c| codecs.contains(&c));
        let wanted =
            media.as_deref() == Some("video") && known && !shared.video.swap(true, Ordering::Relaxed);
        if !known {
            let name = format!("{} {}", media.unwrap_or_default(), encoding.unwrap_or_default());
            shared.offered.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        }
        Some(wanted.to_value())
    });
}

fn rtp_fields(caps: &gst::Caps) -> (Option<String>, Option<String>) {
    let field = |name| caps.structure(0).and_then(|s| s.get::<String>(name).ok());
    (field("media"), field("encoding-name"))
}

/// Builds the tail that fits the codec of a new pad and links it.
fn link_tail(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    tails: &[Description],
    shared: &Arc<Shared>,
) -> Result<(), Fault> {
    // A file may hold several; `rtspsrc` was told to set up one.
    if shared.linked.swap(true, Ordering::Relaxed) && shared.target.local.is_some() {
        return Ok(());
    }
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let (_, encoding) = rtp_fields(&caps);
    let media = caps.structure(0).map(|fields| fields.name().as_str());
    let name = encoding.as_deref().or(media).unwrap_or("an unknown codec");
    let codec = encoding.as_deref().and_then(Codec::of_rtp).or_else(|| media.and_then(Codec::of_media_type));
    let Some(tail) = tails.iter().find(|t| codec.is_some() && t.codec == codec) else {
        let what = format!("{} sends {name}, which this pipeline does not take", shared.target.shown);
        return Err(Fault::new(FaultClass::Codec, what, "leave `pipeline` out or change the camera's codec"));
    };
    tail.check_elements()?;
    let bin = tail.launch(&values(shared), |text| gst::parse::bin_from_description(text, true))?;
    unpack::attach(&bin, shared)?;
    pipeline.add(&bin).map_err(|error| internal(&error))?;
    bin.sync_state_with_parent().map_err(|error| internal(&error))?;
    let entry = bin.static_pad("sink").ok_or_else(|| tail.wrong(&"nothing in it takes input"))?;
    pad.link(&entry).map_err(|error| internal(&error))?;
    Ok(())
}

/// What the placeholders of a description stand for.
fn values(shared: &Shared) -> [(&'static str, &'static str); 1] {
    [("protocols", shared.target.transport.as_str())]
}
