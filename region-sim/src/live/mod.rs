//! Real `meridian` processes behind emulated links.

pub mod relay;
