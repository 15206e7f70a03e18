use super::*;

fn root(opcodes: &[u8]) -> (Graph, usize) {
    parse(opcodes).expect("a pickle")
}

fn refused(opcodes: &[u8]) -> String {
    parse(opcodes).expect_err("refused")
}

/// `pickle.dumps({'a': [1, 2.5, None, True], 'b': (b'xy', -3, 2**40), 'c': {1, 2}}, PROTOCOL)`.
#[test]
fn plain_values_of_every_protocol() {
    let protocol2 = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03c_codecs\nencode\nq\x04X\x02\x00\x00\x00xyq\x05X\x06\x00\x00\x00latin1q\x06\x86q\x07Rq\x08J\xfd\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x87q\tX\x01\x00\x00\x00cq\nc__builtin__\nset\nq\x0b]q\x0c(K\x01K\x02e\x85q\rRq\x0eu.";
    let protocol4 = b"\x80\x04\x95-\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01G@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94C\x02xy\x94J\xfd\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x87\x94\x8c\x01c\x94\x8f\x94(K\x01K\x02\x90u.";
    for bytes in [&protocol2[..], &protocol4[..]] {
        let (graph, length) = root(bytes);
        assert_eq!(length, bytes.len());
        let value = graph.root();
        let list = value.get("a").expect("a list");
        assert_eq!(list.elements().expect("a list").len(), 4);
        assert_eq!(list.element(0).and_then(Value::int), Some(1));
        assert_eq!(list.element(1).and_then(Value::float), Some(2.5));
        assert_eq!(list.element(2).map(Value::kind).as_deref(), Some("None"));
        assert_eq!(list.element(3).and_then(Value::bool), Some(true));
        let tuple = value.get("b").expect("a tuple");
        assert_eq!(tuple.element(1).and_then(Value::int), Some(-3));
        assert_eq!(tuple.element(2).and_then(Value::int), Some(1 << 40));
        assert!(value.get("c").is_some() && value.get("d").is_none());
    }
}

/// Calling `os.system` is what a hostile pickle does; here it is a name and an argument.
#[test]
fn calls_are_only_recorded() {
    let (graph, _) = root(b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00reboot\x85R.");
    let (class, args) = graph.root().object().expect("an object");
    assert_eq!(class.global(), Some(("posix", "system")));
    assert_eq!(args.element(0).and_then(Value::text), Some("reboot"));
    assert_eq!(graph.root().kind(), "an object of posix.system");
}

#[test]
fn objects_keep_attributes_and_dictionaries_order() {
    // An object of utils.NNQueue with state {'ptr': 8}, memoised before it is built.
    let (graph, _) = root(b"\x80\x02cutils\nNNQueue\n)\x81q\x00}X\x03\x00\x00\x00ptrK\x08sb.");
    assert_eq!(graph.root().attribute("ptr").and_then(Value::int), Some(8));
    // OrderedDict(), memoised, filled, and fetched again: the same one.
    let (graph, _) = root(
        b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(X\x01\x00\x00\x00zK\x01X\x01\x00\x00\x00aK\x02u0h\x00.",
    );
    let entries = graph.root().entries().expect("a dictionary");
    let names: Vec<_> = entries.iter().filter_map(|(key, _)| key.text()).collect();
    assert_eq!(names, ["z", "a"]);
    // Python 2's: OrderedDict([['z', 1]]).
    let (graph, _) = root(b"\x80\x02ccollections\nOrderedDict\n]]U\x01zaK\x01aa\x85R.".as_slice());
    assert_eq!(graph.root().get("z").and_then(Value::int), Some(1));
}

/// A list that holds itself, a thousand nested lists, a list doubled sixty times: nothing is expanded,
/// so nothing goes wrong.
#[test]
fn bombs_do_not_go_off() {
    let (graph, _) = root(b"\x80\x02]q\x00h\x00a.");
    let inner = graph.root().element(0).expect("itself");
    assert_eq!(inner.kind(), "a list");

    let depth = 100_000;
    let mut nested = b"\x80\x02".to_vec();
    nested.extend(vec![b']'; depth]);
    nested.extend(vec![b'a'; depth - 1]);
    nested.push(b'.');
    assert_eq!(root(&nested).0.root().kind(), "a list");

    let mut doubled = b"\x80\x02]".to_vec();
    for key in 0..60 {
        doubled.extend([b'q', key, b'h', key, 0x86]);
    }
    doubled.push(b'.');
    assert_eq!(root(&doubled).0.root().kind(), "a tuple");
}

#[test]
fn damage_is_named_with_its_place() {
    for (bytes, expected) in [
        (&b"\x80\x02"[..], "ends too early"),
        (b"\x80\x02X\xff\xff\xff\xffab.", "ends too early"),
        (
            b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
            "ends too early",
        ),
        (b"\x80\x02cos\nsystem", "ends too early"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\x80\x02a.", "stack"),
        (b"\x80\x02K\x01(a.", "stack"),
        (b"\x80\x02e.", "no mark"),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02K\x01K\x02a.", "no list"),
        (b"\x80\x02h\x07.", "memo entry 7"),
        (b"\x80\x02i\n.", "opcode 0x69"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "UTF-8"),
        (b"\x80\x02K\x01K\x02\x93.", "no string"),
    ] {
        let message = refused(bytes);
        assert!(
            message.contains(expected) && message.contains("byte"),
            "{message}"
        );
    }
    // One value more than are read.
    let mut many = b"\x80\x02(".to_vec();
    many.extend(vec![b'N'; MAX_NODES + 1]);
    many.extend(b"t.");
    assert!(refused(&many).contains(&MAX_NODES.to_string()));
}

#[test]
fn what_is_written_is_read() {
    let mut writer = Writer::new(3);
    writer.empty_dict().mark();
    writer.text("sizes").sizes(&[0, 255, 256, usize::MAX >> 1]);
    writer
        .text("yes")
        .bool(true)
        .text("none")
        .none()
        .text("minus")
        .int(-1);
    writer.text("bytes").bytes(b"\x00\xff").set_items();
    let bytes = writer.finish();
    let (graph, _) = root(&bytes);
    let value = graph.root();
    assert_eq!(
        value.get("sizes").and_then(Value::sizes),
        Some(vec![0, 255, 256, usize::MAX >> 1])
    );
    assert_eq!(value.get("yes").and_then(Value::bool), Some(true));
    assert_eq!(value.get("minus").and_then(Value::int), Some(-1));
    assert_eq!(
        value.get("bytes").map(Value::kind).as_deref(),
        Some("bytes")
    );
}
