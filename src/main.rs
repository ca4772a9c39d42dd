//! The `palisade` binary: everything is in the library, so that tests reach it.

/// Small and page-aligned blocks by the ten thousand are most of what is allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    palisade::cli::main()
}
