use super::*;

const BOTH: Format = Format {
    framed: false,
    joined: false,
    stdout: true,
    stderr: true,
    timestamps: false,
    details: false,
    since: None,
    until: None,
};

fn render(format: &Format, line: &str) -> String {
    let mut out = Frames::default();
    format.render(line.as_bytes(), &mut out);
    String::from_utf8(out.bytes).unwrap()
}

fn time(text: &str) -> Option<Bound> {
    Some(Bound::new(text.parse().unwrap()))
}

const LINE: &str = r#"{"log":"a \"b\"\n","stream":"stdout","time":"2026-11-24T10:28:46.70659935Z"}"#;
const WITH_ATTRIBUTES: &str =
    r#"{"log":"x\n","stream":"stderr","attrs":{"b":"2 &","a":"\"time\":\"1"},"time":"2026-11-24T10:28:46Z"}"#;

#[test]
fn text_is_unescaped() {
    assert_eq!(render(&BOTH, LINE), "a \"b\"\n");
    let line = |text: &str| format!(r#"{{"log":"{text}","stream":"stdout","time":"2026-11-24T10:28:46Z"}}"#);
    assert_eq!(render(&BOTH, &line(r"\u003c\u0026\u003e\t\r\\\/\u00e4\ud83d\ude00.")), "<&>\t\r\\/ä😀.");
    assert_eq!(render(&BOTH, &line(r"\ud83d!\ufffd")), "\u{fffd}!\u{fffd}");
    assert_eq!(render(&BOTH, &line("")), "");
}

#[test]
fn frames_name_the_stream_and_the_length() {
    let mut out = Frames::default();
    let format = Format { framed: true, ..BOTH };
    format.render(LINE.as_bytes(), &mut out);
    format.render(WITH_ATTRIBUTES.as_bytes(), &mut out);
    assert_eq!(out.bytes, b"\x01\0\0\0\0\0\0\x06a \"b\"\n\x02\0\0\0\0\0\0\x02x\n");
    let only_stderr = Format { stdout: false, ..BOTH };
    assert_eq!(render(&only_stderr, LINE) + &render(&only_stderr, WITH_ATTRIBUTES), "x\n");
}

#[test]
fn lines_of_one_stream_share_a_frame_up_to_its_size() {
    let format = Format { framed: true, joined: true, ..BOTH };
    let mut out = Frames::default();
    for line in [LINE, LINE, WITH_ATTRIBUTES, LINE] {
        format.render(line.as_bytes(), &mut out);
    }
    let expected = b"\x01\0\0\0\0\0\0\x0ca \"b\"\na \"b\"\n\x02\0\0\0\0\0\0\x02x\n\x01\0\0\0\0\0\0\x06a \"b\"\n";
    assert_eq!(out.bytes, expected);
    let mut out = Frames::default();
    for _ in 0..10_000 {
        format.render(LINE.as_bytes(), &mut out);
    }
    let (mut rest, mut texts) = (&out.bytes[..], 0);
    while let [1, 0, 0, 0, length @ ..] = rest {
        let length = u32::from_be_bytes(*length.first_chunk().unwrap()) as usize;
        assert!(length < FULL + 6 && length.is_multiple_of(6), "{length}");
        texts += length;
        rest = &rest[8 + length..];
    }
    assert_eq!((rest.len(), texts), (0, 60_000));
}

#[test]
fn times_have_nine_digits_and_details_are_escaped() {
    let format = Format { timestamps: true, ..BOTH };
    assert_eq!(render(&format, LINE), "2026-11-24T10:28:46.706599350Z a \"b\"\n");
    let format = Format { timestamps: true, details: true, ..BOTH };
    assert_eq!(render(&format, WITH_ATTRIBUTES), "2026-11-24T10:28:46.000000000Z a=%22time%22%3A%221,b=2+%26 x\n");
    assert_eq!(render(&Format { details: true, ..BOTH }, LINE), " a \"b\"\n");
}

#[test]
fn bounds_in_time() {
    let since = |text| Format { since: time(text), ..BOTH };
    assert_eq!(render(&since("2026-11-24T10:28:46.70659936Z"), LINE), "");
    assert_eq!(render(&since("2026-11-24T10:28:46.70659935Z"), LINE), "a \"b\"\n");
    assert_eq!(render(&since("2026-11-24T10:28:45.9Z"), LINE), "a \"b\"\n");
    let until = |text| Format { until: time(text), ..BOTH }.render(LINE.as_bytes(), &mut Frames::default());
    assert_eq!(until("2026-11-24T10:28:46.70659935Z"), Verdict::More);
    assert_eq!(until("2026-11-24T10:28:46.7Z"), Verdict::Beyond);
    // An offset is another way to say the same.
    let line = LINE.replace("T10:28:46.70659935Z", "T12:28:46.70659935+02:00");
    assert_eq!(render(&since("2026-11-24T10:28:46.70659936Z"), &line), "");
    assert_eq!(render(&since("2026-11-24T10:28:46.7Z"), &line), "a \"b\"\n");
}

#[test]
fn other_shapes_are_read_and_rubbish_is_left_out() {
    let loose = r#"{"stream":"stderr","time":"2026-11-24T10:28:46Z", "log":"a\n", "more": [1]}"#;
    assert_eq!(render(&BOTH, loose), "a\n");
    for rubbish in
        ["", "{", "\0\0\0", r#"{"log":"a"#, r#"{"log":"a\"#, r#"{"log":"a\"}"#, r#"{"log":"a","stream":"x","time":3}"#]
    {
        assert_eq!(render(&BOTH, rubbish), "", "{rubbish}");
    }
}
