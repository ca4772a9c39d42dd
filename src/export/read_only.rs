//! A volume that refuses to change.

use super::{Durability, Extent, Volume, VolumeInfo, ZeroOptions};
use crate::env::LocalFuture;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::sync::Arc;

/// Passes reads through to another volume and refuses everything that changes it.
pub struct ReadOnly(pub Arc<dyn Volume>);

fn refused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::ReadOnly, "this export is read-only"))
}

impl Volume for ReadOnly {
    fn info(&self) -> VolumeInfo {
        VolumeInfo { read_only: true, ..self.0.info() }
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Bytes>>> {
        self.0.read(offset_bytes, len_bytes)
    }

    fn write(&self, _: u64, _: Bytes, _: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { refused() })
    }

    fn write_zeroes(&self, _: u64, _: u64, _: ZeroOptions) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { refused() })
    }

    fn discard(&self, _: u64, _: u64, _: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { refused() })
    }

    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        self.0.flush()
    }

    fn status(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Extent>>> {
        self.0.status(offset_bytes, len_bytes)
    }
}
