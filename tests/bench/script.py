"""The program that a careful user would write by hand: OpenCV, ONNX Runtime, paho-mqtt, every frame grabbed, every fifth looked at.

Tuned as far as such a script goes: one decoder thread, one inference thread without spinning, no OpenCV threads, the
same int8 network as the daemon. Less work than the daemon's: no tracks, no rules, no reconnection, no queue.

    script.py URL MODEL.json MQTT_PORT SETTLE SECONDS        prints one line of JSON
"""
import json
import os
import resource
import sys
import time

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp|threads;1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import cv2
import numpy as np
import onnxruntime as ort
import paho.mqtt.client as mqtt

FPS = 5
CONFIRM = 2      # looks in a row


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


class Detector:
    """Letterbox, one table look-up a byte, inference, threshold and non-maximum suppression."""

    def __init__(self, file, width, height, pad, table, min_score):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.width, self.height, self.pad, self.min_score = width, height, pad, min_score
        self.tables = [np.array(row, np.uint8) for row in table]
        self.canvas = np.full((height, width, 3), pad, np.uint8)
        self.tensor = np.empty((1, 3, height, width), np.uint8)

    def people(self, picture):
        height, width = picture.shape[:2]
        ratio = min(self.width / width, self.height / height)
        inner = (round(width * ratio), round(height * ratio))
        x, y = (self.width - inner[0]) // 2, (self.height - inner[1]) // 2
        cv2.resize(picture, inner, dst=self.canvas[y:y + inner[1], x:x + inner[0]], interpolation=cv2.INTER_AREA)
        for channel, table in enumerate(self.tables):
            cv2.LUT(self.canvas[:, :, channel], table, dst=self.tensor[0, channel])
        found = dict(zip(self.outputs, self.session.run(self.outputs, {self.input: self.tensor})))
        boxes, scores = found["boxes"][0], found["scores"][0][:, 0]
        keep = np.flatnonzero(scores >= self.min_score)
        corners = boxes[keep]
        sizes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        chosen = cv2.dnn.NMSBoxes(sizes.tolist(), scores[keep].tolist(), self.min_score, 0.5)
        return [(float(scores[keep][i]), corners[i].tolist()) for i in np.array(chosen).flatten()]


def main():
    url, model, port, settle, seconds = sys.argv[1:]
    cv2.setNumThreads(1)
    with open(model) as text:
        detector = Detector(**json.load(text))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        sys.exit(f"{url} does not open")
    every = round((capture.get(cv2.CAP_PROP_FPS) or 25) / FPS)
    begin, looks, frames, held = None, 0, 0, 0
    opened = time.monotonic()
    while True:
        if not capture.grab():
            sys.exit(f"{url} ended")
        frames += 1
        now = time.monotonic()
        if begin is None and now - opened >= float(settle):
            begin, cpu, looks = now, cpu_seconds(), 0
        if begin is not None and now - begin >= float(seconds):
            break
        if frames % every:
            continue
        people = detector.people(capture.retrieve()[1])
        looks += 1
        held = held + 1 if people else 0
        if held == CONFIRM:
            client.publish("script/event", json.dumps({"people": people, "at": time.time()}), qos=1)
            held = -50       # a cooldown
    wall = time.monotonic() - begin
    print(json.dumps({"cores": (cpu_seconds() - cpu) / wall, "analysed": looks / wall, "rss_mib": resident_mib()}))


main()
