//! Machine code that a compiling process of ours made.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Makes a component of machine code.
///
/// # Errors
/// When the bytes were made by another version or configuration of wasmtime, which it checks.
#[expect(unsafe_code, reason = "wasmtime cannot check that the bytes are code that it made itself")]
pub fn component(engine: &Engine, machine_code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must come unchanged from wasmtime's own compiler. Callers pass only what they read from the pipe of a child that
    // runs this very program, or from a cache file whose HMAC under the host's own key they have checked.
    unsafe { Component::deserialize(engine, machine_code) }
}
