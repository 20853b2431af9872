import io
import os

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gramcli.audio import condition
from gramcli.audio.background import Backgrounds
from gramcli.audio.condition import apply, parse
from gramcli.audio.decoder_pool import Decoders
from gramcli.errors import NoInputError, UsageError

RATE = 16000
KINDS = ["noise:20", "gain:-20", "lowpass:4000", "reverb:0.5", "codec:mp3-32"]


@pytest.fixture
def tone():
    time = np.arange(RATE) / RATE
    return (0.2 * np.sin(2 * np.pi * 440 * time) + 0.05 * np.sin(2 * np.pi * 6000 * time)).astype(np.float32)


@pytest.fixture
def street(tmp_path):
    rng = np.random.default_rng(1)
    for n, seconds in enumerate((0.4, 3.0)):
        soundfile.write(tmp_path / f"{n}.wav", rng.normal(size=int(seconds * RATE)) * 0.1, RATE)
    return tmp_path


def decibels(signal, changed):
    return 10 * np.log10(np.mean(signal.astype(float) ** 2) / np.mean((changed.astype(float) - signal) ** 2))


@pytest.mark.parametrize("ratio", [-10, 0, 10, 20, 37.5])
def test_noise_has_the_ratio_that_was_asked_for(tone, ratio):
    assert decibels(tone, apply(parse(f"noise:{ratio}"), tone, RATE, "clip")) == pytest.approx(ratio, abs=1e-4)


def test_noise_is_white_and_gaussian(tone):
    from scipy import stats

    noise = apply(parse("noise:0"), tone, RATE, "clip").astype(float) - tone
    assert stats.kstest(noise / noise.std(), "norm").pvalue > 0.01
    halves = np.split(np.abs(np.fft.rfft(noise))[1:] ** 2, 2)
    assert halves[0].sum() == pytest.approx(halves[1].sum(), rel=0.1)


@pytest.mark.parametrize("text", KINDS)
def test_the_same_clip_sounds_the_same_and_keeps_its_length(tone, text):
    once = apply(parse(text), tone, RATE, "clip")
    assert once.dtype == np.float32
    assert once.shape == tone.shape
    assert not np.array_equal(once, tone)
    np.testing.assert_array_equal(once, apply(parse(text), tone.copy(), RATE, "clip"))


@pytest.mark.parametrize("text", ["noise:20", "reverb:0.5"])
def test_what_is_random_depends_on_key_and_condition(text):
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    first = apply(parse(text), click, RATE, "clip")[1:]
    kind, value = text.split(":")
    for other, key in ((text, "other"), (f"{kind}:{float(value) * 0.9}", "clip")):
        assert abs(np.corrcoef(first, apply(parse(other), click, RATE, key)[1:])[0, 1]) < 0.1


def test_noise_is_the_same_on_every_machine():
    noise = apply(parse("noise:0"), np.ones(4, np.float32), RATE, "clip") - 1
    # golden: PCG64 seeded with the SHA-256 of "clip noise:0"
    np.testing.assert_allclose(noise, [-0.4962080, -0.9438295, -1.5057945, -0.7717165], rtol=1e-5)


def test_gain_scales_without_clipping(tone):
    np.testing.assert_allclose(apply(parse("gain:40"), tone, RATE, "clip"), tone * 100, rtol=1e-6)
    np.testing.assert_allclose(apply(parse("gain:-20"), tone, RATE, "clip"), tone / 10, rtol=1e-6)


def test_lowpass_takes_the_highs_and_moves_nothing(tone):
    time = np.arange(RATE) / RATE
    low = 0.2 * np.sin(2 * np.pi * 440 * time)
    changed = apply(parse("lowpass:3000"), tone, RATE, "clip")
    np.testing.assert_allclose(changed[2000:-2000], low[2000:-2000], atol=1e-4)
    with pytest.raises(UsageError, match="lowpass:8000: must be below half the sample rate, 8000 Hz"):
        apply(parse("lowpass:8000"), tone, RATE, "clip")


def test_reverb_decays_by_60_db_in_its_time():
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 1
    tail = apply(parse("reverb:1"), click, RATE, "clip").astype(float)
    assert tail[0] == pytest.approx(1)
    assert np.sum(tail[1:] ** 2) == pytest.approx(1, rel=0.01)
    early, late = (np.mean(tail[start : start + 1600] ** 2) for start in (1, RATE * 8 // 10))
    assert 10 * np.log10(early / late) == pytest.approx(60 * 0.8, abs=2)


@pytest.mark.parametrize(("rate", "kbps"), [(8000, 16), (16000, 8), (16000, 32), (44100, 64), (48000, 320)])
def test_codec_writes_about_the_rate_that_was_asked_for(rate, kbps, monkeypatch):
    sizes = []

    class Counted(io.BytesIO):
        def seek(self, *args):
            sizes.append(len(self.getvalue()))
            return super().seek(*args)

    monkeypatch.setattr(condition.io, "BytesIO", Counted)
    samples = np.random.default_rng(0).normal(size=2 * rate).astype(np.float32) * 0.1
    assert len(apply(parse(f"codec:mp3-{kbps}"), samples, rate, "clip")) == len(samples)
    assert max(sizes) * 8 / 2 / 1000 == pytest.approx(kbps, rel=0.1)


def test_codec_keeps_time_and_level(tone):
    loud = 4 * tone  # beyond full scale
    assert decibels(loud, apply(parse("codec:mp3-64"), loud, RATE, "clip")) > 15


@pytest.mark.parametrize(
    ("text", "rate", "message"),
    [
        ("codec:mp3-320", 16000, "MP3 at 16000 Hz has 8, 16, .*, 144, 160 kbit/s, and no other"),
        ("codec:mp3-64", 17000, "MP3 has no sample rate of 17000 Hz"),
    ],
)
def test_codec_refuses_what_mp3_has_not(tone, text, rate, message):
    with pytest.raises(UsageError, match=message):
        apply(parse(text), tone, rate, "clip")


@pytest.mark.parametrize("kbps", [31, 65, 319])
def test_a_rate_that_mp3_has_not_is_refused_before_anything_is_heard(kbps):
    with pytest.raises(UsageError, match=rf"condition codec:mp3-{kbps}: MP3 has 8, 16, .*, 320 kbit/s, and no other"):
        parse(f"codec:mp3-{kbps}")


def test_background_is_mixed_at_the_ratio(tone, street):
    about = parse(f"background:{street}:10")
    with Decoders(1) as decoders:
        sounds = Backgrounds(about, decoders, RATE)
        changed = apply(about, tone, RATE, "clip", sounds)
        assert decibels(tone, changed) == pytest.approx(10, abs=1e-3)
        np.testing.assert_array_equal(changed, apply(about, tone, RATE, "clip", sounds))
        pieces = {apply(about, tone, RATE, f"clip {n}", sounds).tobytes() for n in range(8)}
    assert len(pieces) == 8
    with pytest.raises(ValueError, match="needs its recordings"):
        apply(about, tone, RATE, "clip")


def test_background_is_known_by_its_content(street, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere")
    for file in street.glob("*.wav"):
        (moved / file.name).write_bytes(file.read_bytes())
    here, there = parse(f"background:{street}:10"), parse(f"background:{moved}:10")
    assert (here.identity, here.name) == (there.identity, there.name)
    (moved / "0.wav").write_bytes((moved / "1.wav").read_bytes())
    assert parse(f"background:{moved}:10").identity != here.identity


def test_background_needs_a_folder_of_recordings(tmp_path):
    with pytest.raises(NoInputError, match="there is no such folder"):
        parse(f"background:{tmp_path / 'none'}:10")
    with pytest.raises(NoInputError):
        parse(f"background:{tmp_path}:10")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(NoInputError, match=r"pipe\.wav: background recording cannot be read: it is not a regular file"):
        parse(f"background:{tmp_path}:10")


@pytest.mark.parametrize("text", KINDS)
@pytest.mark.parametrize("samples", [np.zeros(500, np.float32), np.zeros(0, np.float32), np.ones(1, np.float32)])
def test_silence_and_the_shortest_clips_stay_finite(text, samples):
    changed = apply(parse(text), samples, RATE, "clip")
    assert changed.shape == samples.shape
    assert np.isfinite(changed).all()
    if not samples.any():
        assert not changed.any() or text.startswith("codec")


@pytest.mark.parametrize(
    "text",
    ["", "noise", "noise:", "noise:loud", "noise:nan", "noise:inf", "noise:1e9", "echo:3", "gain:", "lowpass:0",
     "reverb:-1", "codec:mp3", "codec:ogg-32", "codec:mp3-1", "background:10", "NOISE:20"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_forms(text):
    with pytest.raises(UsageError, match=r"give one of noise:DB, gain:DB, lowpass:HZ"):
        parse(text)


@given(st.sampled_from(["noise", "gain"]), st.floats(-90, 90))
def test_one_meaning_has_one_text_and_one_name(kind, value):
    first = parse(f"{kind}:{value!r}")
    again = parse(first.text)
    assert (again.text, again.name) == (first.text, first.name)
    assert "/" not in first.name
    assert parse(f"{kind}:{value:+.17e}").identity == first.identity


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(KINDS))
def test_any_length_is_kept(length, text):
    samples = np.random.default_rng(length).normal(size=length).astype(np.float32)
    changed = apply(parse(text), samples, RATE, "clip")
    assert changed.shape == (length,)
    assert np.isfinite(changed).all()
