package boltstore

import (
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
)

// refuseSync has every sync of the calling thread fail with EIO from now on,
// as with a disk that cannot write any more. The goroutine has to be locked to
// its thread, which must end with it.
func refuseSync() error {
	const (
		load, equal, answer     = 0x20, 0x15, 0x06 // BPF: a word, jump if equal, return
		refuse, allow           = 0x00050000 | uint32(syscall.EIO), 0x7fff0000
		noNewPrivileges, filter = 38, 22 // of prctl
	)
	program := []syscall.SockFilter{
		{Code: load}, // the number of the system call
		{Code: equal, Jt: 2, K: syscall.SYS_FDATASYNC},
		{Code: equal, Jt: 1, K: syscall.SYS_FSYNC},
		{Code: answer, K: allow},
		{Code: answer, K: refuse},
	}
	fprog := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, noNewPrivileges, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, filter, 2, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return errno
	}
	return nil
}

func TestNothingIsDurableThatTheDiskHasNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		s := open(t, o)
		kept := storetest.Record(t, "kept.example", due)
		mustSave(t, s, kept)
		refused := make(chan [2]error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends here
			if err := refuseSync(); err != nil {
				t.Error(err)
			}
			saved := s.Save(t.Context(), storetest.Record(t, "new.example", due))
			refused <- [2]error{saved, s.Remove(t.Context(), kept.Domain)}
		}()
		for i, err := range <-refused {
			if err == nil {
				t.Errorf("write %d: durable, though no sync was done", i)
			}
		}
		wantRecord(t, s, kept)
		time.Sleep(2 * retryAfter)
		fresh := storetest.Record(t, "fresh.example", due)
		mustSave(t, s, fresh)
		wantRecord(t, s, fresh)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		for _, r := range []cache.Record{kept, fresh} {
			wantRecord(t, s, r)
		}
	})
}
