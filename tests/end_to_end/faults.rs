//! Clients that check what they read, while members fail and are replaced under them.

use crate::tank::Tank;
use crate::tools::{Running, run, wait_until};
use std::fs;

fn blank(tank: &Tank, name: &str) -> String {
    let path = tank.file(name);
    fs::File::create(&path).unwrap().set_len(32 << 20).unwrap();
    path
}

#[test]
fn qemu_writes_zeroes_and_discards_while_a_member_is_failed_and_replaced() {
    let tank = Tank::started("32M", "");
    let uri = tank.uri();
    let source = tank.noise_file("source", 12, tank.volume_bytes());
    let io = |commands: &[&str]| {
        let mut args = vec!["-f", "raw"];
        commands.iter().for_each(|c| args.extend(["-c", c]));
        args.push(&uri);
        let out = run("qemu-io", &args);
        assert!(!out.contains("failed"), "{out}");
    };
    run("qemu-img", &["convert", "-n", "-m", "8", "-W", "-f", "raw", "-O", "raw", &source, &uri]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &source, &uri]);
    tank.command("fail tank 2").ends(0);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &source, &uri]);
    io(&["write -f -P 0x5a 1M 1M", "write -f -P 0x33 1000 77", "write -z 8M 1M", "discard 16M 4M"]);
    let checks = [
        "read -P 0x5a 1M 1M",
        "read -P 0x33 1000 77",
        "read -P 0 8M 1M",
        "read -P 0 16M 4M",
        "read -P 0x5b 30M 1M",
        "read -P 0x44 24M 300K",
    ];
    io(&["write -f -P 0x5b 30M 1M", "write -P 0x44 24M 300K", "flush"]);
    io(&checks);
    let new = blank(&tank, "new");
    tank.command(&format!("replace tank 2 {new}")).ends(0);
    io(&["write -f -P 0x66 32M 1M", "write -z 40M 512K"]);
    tank.wait_state("optimal");
    io(&checks);
    // What the replacement holds is what counts now.
    tank.command("fail tank 0").ends(0);
    tank.command("fail tank 1").ends(0);
    io(&checks);
    io(&["read -P 0x66 32M 1M", "read -P 0 40M 512K"]);
}

#[test]
fn fio_reads_back_what_it_wrote_while_a_spare_takes_the_place_of_a_failed_member() {
    if !run("fio", &["--enghelp"]).contains("nbd") {
        println!("skipped: this fio has no nbd engine");
        return;
    }
    let tank = Tank::create("32M", "");
    let spare = blank(&tank, "spare");
    tank.command("start tank").ends(0);
    tank.command(&format!("add tank {spare}")).ends(0);
    let uri = format!("--uri={}", tank.uri());
    let aux = format!("--aux-path={}", tank.file("."));
    let mut fio = Running::spawn(
        "fio",
        &[
            "--name=verify",
            "--ioengine=nbd",
            &uri,
            &aux,
            "--rw=randrw",
            "--bsrange=4k-128k",
            "--iodepth=16",
            "--size=48m",
            "--loops=2",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--rate=12m",
        ],
    );
    let connected = || tank.status()["exports"][0]["connections"] == 1;
    wait_until("fio is at work", connected);
    std::thread::sleep(std::time::Duration::from_millis(500));
    tank.command("fail tank 3").ends(0);
    fio.is_at_work();
    tank.wait_state("optimal");
    let out = fio.succeeds();
    assert!(out.contains("err= 0"), "{out}");
    let status = tank.status();
    let members = status["members"].as_array().unwrap();
    assert!(
        members.iter().any(|m| m["slot"] == 3 && m["path"] == spare && m["state"] == "in-sync"),
        "{status:#}"
    );
}

#[test]
fn libnbd_sees_holes_and_keeps_its_promises_with_a_member_lost() {
    let tank = Tank::started("32M", "");
    tank.command("fail tank 5").ends(0);
    let script = r#"
import nbd, sys
def connect():
    h = nbd.NBD(); h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION); h.set_strict_mode(0)
    h.connect_uri(sys.argv[1]); return h
def extents(h, count, at):
    out = []
    def got(context, offset, entries, err): out.extend(entries); return 0
    h.block_status(count, at, got)
    return list(zip(out[::2], out[1::2]))
def fails(call, *args):
    try: call(*args)
    except nbd.Error as e: assert e.errno in ("EINVAL", "ENOSPC"), e
    else: raise AssertionError("no error from %s%r" % (call, args))
a, b = connect(), connect()
assert a.can_multi_conn() and a.can_fua() and a.can_trim()
size = a.get_size()
hole = nbd.STATE_HOLE | nbd.STATE_ZERO
assert all(flags & nbd.STATE_ZERO for _, flags in extents(a, 8 << 20, 0)), extents(a, 8 << 20, 0)
a.pwrite(b"a" * (1 << 20), 1 << 20, nbd.CMD_FLAG_FUA)
assert b.pread(1 << 20, 1 << 20) == b"a" * (1 << 20)
b.pwrite(b"b" * 1000, (1 << 20) + 4321, nbd.CMD_FLAG_FUA)
got = a.pread(8192, 1 << 20)
assert got == b"a" * 4321 + b"b" * 1000 + b"a" * (8192 - 5321)
assert not extents(a, 1 << 20, 1 << 20)[0][1] & nbd.STATE_ZERO
a.flush()
fails(a.pread, 512, size); fails(a.pwrite, b"x" * 512, size - 256); fails(a.trim, 4096, size); fails(a.zero, 4096, size - 1)
b.trim(1 << 20, 1 << 20)
assert a.pread(1 << 20, 1 << 20) == bytes(1 << 20)
assert extents(a, 1 << 20, 1 << 20)[0][1] == hole, extents(a, 1 << 20, 1 << 20)
pending = [a.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(bytes([i]) * 65536)), i << 16) for i in range(64)]
while a.aio_in_flight(): a.poll(-1)
assert all(a.aio_command_completed(c) for c in pending)
for i in range(64): assert b.pread(65536, i << 16) == bytes([i]) * 65536, i
a.shutdown(); b.shutdown()
"#;
    run("/usr/bin/python3", &["-c", script, &tank.uri()]);
}
