//! Intel's ISA-L, if it is installed (Debian: `libisal2`), as a peer of the codec.
//!
//! It is loaded at run time, so that the benchmark builds without it; `ISAL` names another library, of a newer
//! release. Its tables are made before the clock runs, of the factors of our own code: so both compute the same.

use libc::{c_char, c_int, c_uchar, c_void};
use std::ffi::{CStr, CString};

/// Bytes of table for each factor, in `ec_init_tables`.
const TABLE_BYTES: usize = 32;

/// `ec_init_tables(k, rows, factors, tables)`.
type InitTables = unsafe extern "C" fn(c_int, c_int, *const c_uchar, *mut c_uchar);
/// `ec_encode_data(len, k, rows, tables, sources, outputs)`.
type EncodeData = unsafe extern "C" fn(c_int, c_int, c_int, *mut c_uchar, *const *const u8, *const *mut u8);

/// The two functions of the library that combine shards.
#[derive(Clone, Copy)]
pub struct IsaL {
    init_tables: InitTables,
    encode_data: EncodeData,
}

impl IsaL {
    /// The library that `ISAL` names, or the system's; why not, if there is none.
    pub fn load() -> Result<Self, String> {
        let name = std::env::var("ISAL").unwrap_or_else(|_| "libisal.so.2".into());
        let path = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the path ends with a zero; loading ISA-L runs no code that anything here depends on.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(reason());
        }
        let init_tables = symbol(library, c"ec_init_tables")?;
        let encode_data = symbol(library, c"ec_encode_data")?;
        // SAFETY: these are the types that isa-l/erasure_code.h declares, in all releases from 2.14 on; the library
        // is never closed.
        unsafe {
            Ok(Self {
                init_tables: std::mem::transmute::<*mut c_void, InitTables>(init_tables),
                encode_data: std::mem::transmute::<*mut c_void, EncodeData>(encode_data),
            })
        }
    }

    /// What computes `rows.len()` outputs of as many shards as each row has factors.
    pub fn combination(self, rows: &[Vec<u8>]) -> Combination {
        let inputs = rows.first().map_or(0, Vec::len);
        assert!(rows.iter().all(|row| row.len() == inputs), "rows of different lengths");
        let factors = rows.concat();
        let mut tables = vec![0; TABLE_BYTES * factors.len()];
        // SAFETY: `factors` has rows x inputs bytes, `tables` 32 for each of them, as the header asks for.
        unsafe { (self.init_tables)(int(inputs), int(rows.len()), factors.as_ptr(), tables.as_mut_ptr()) };
        Combination { library: self, inputs, outputs: rows.len(), tables }
    }
}

/// Factors, ready to be used.
pub struct Combination {
    library: IsaL,
    inputs: usize,
    outputs: usize,
    tables: Vec<u8>,
}

impl Combination {
    /// Computes the outputs; all shards are equally long.
    pub fn run(&mut self, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
        let bytes = sources.first().map_or(0, |s| s.len());
        assert!(sources.len() == self.inputs && outputs.len() == self.outputs, "other shards than factors");
        assert!(
            sources.iter().all(|s| s.len() == bytes) && outputs.iter().all(|o| o.len() == bytes),
            "lengths"
        );
        let from: Vec<*const u8> = sources.iter().map(|s| s.as_ptr()).collect();
        let to: Vec<*mut u8> = outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        // SAFETY: there are as many sources, outputs and tables as is said, checked above, each shard of `bytes`
        // bytes; outputs are exclusive borrows, so none overlaps another shard. The library keeps no pointer.
        unsafe {
            (self.library.encode_data)(
                int(bytes),
                int(self.inputs),
                int(self.outputs),
                self.tables.as_mut_ptr(),
                from.as_ptr(),
                to.as_ptr(),
            );
        }
    }
}

fn int(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(0)
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the library was loaded, the name ends with a zero.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() { Err(reason()) } else { Ok(found) }
}

/// What the loader says of the last thing that failed.
fn reason() -> String {
    // SAFETY: answers null or a string that stays until the next call; nobody else calls it meanwhile.
    let text: *const c_char = unsafe { libc::dlerror() };
    if text.is_null() {
        return "it cannot be loaded".into();
    }
    // SAFETY: not null, so a string that ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
