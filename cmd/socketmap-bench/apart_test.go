package main

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAProcessStaysOnItsCPUs(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	var first, got unix.CPUSet
	if err := unix.SchedGetaffinity(0, &got); err != nil {
		t.Fatal(err)
	}
	for cpu := range runtime.NumCPU() * 64 {
		if got.IsSet(cpu) {
			first.Set(cpu)
			break
		}
	}
	if err := runOn(cmd.Process.Pid, &first); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedGetaffinity(cmd.Process.Pid, &got); err != nil || got != first {
		t.Errorf("it runs on %v, %v, want %v", got, err, first)
	}
	if err := runOn(0, &first); err == nil {
		t.Error("there is no process 0, and no error")
	}
}
