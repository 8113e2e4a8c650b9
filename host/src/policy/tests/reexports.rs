//! What is put into a component before it is compiled.

use pointsman_guests::BUILT_IN;

use super::*;
use crate::policy::compile::with_reexports;
use crate::policy::inspect::inspect;

#[test]
fn every_built_in_gets_one_module_more_and_stays_the_same_to_the_eye() {
    let limits = SANDBOX.limits();
    for component in BUILT_IN {
        let rewritten = with_reexports(component.bytes);
        wasmparser::Validator::new().validate_all(&rewritten).unwrap_or_else(|error| panic!("{}: {error}", component.name));
        let (before, after) = (inspect(component.bytes, limits).unwrap(), inspect(&rewritten, limits).unwrap());
        assert_eq!(after.modules, before.modules + 1, "{}", component.name);
        assert_eq!((after.functions, &after.imports, &after.exports), (before.functions, &before.imports, &before.exports));
    }
}

#[test]
fn what_it_cannot_read_is_left_as_it_was() {
    let whole = component("round-robin");
    for bytes in [&whole[..whole.len() / 2], b"\0asm\x0d\0\x01\0".as_slice(), b"\0asm\x01\0\0\0", b"", &[0xff; 64]] {
        assert_eq!(with_reexports(bytes), bytes);
    }
    // A flipped bit may leave it readable; then it is the compiler that refuses what is not valid.
    for at in 8..whole.len().min(4096) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let _ = with_reexports(&bytes);
    }
}

#[test]
fn a_component_without_lifted_functions_is_left_as_it_was() {
    // One core module, an instance of it, and nothing else.
    let bytes = b"\0asm\x0d\0\x01\0\x01\x08\0asm\x01\0\0\0\x02\x04\x01\0\0\0";
    wasmparser::Validator::new().validate_all(bytes).unwrap();
    assert_eq!(with_reexports(bytes), bytes);
}
