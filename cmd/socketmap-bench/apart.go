package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// clientCPU is where the client runs if it is kept apart from the servers. These
// share all the others, of which there must be one.
const clientCPU = 0

// keepApart keeps servers off the CPU of this process, and this process on it: what
// is measured then is the server, and not how the kernel divides a CPU between it and
// its client.
func keepApart(servers ...int) error {
	var all, client unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("asking for the CPUs of this process: %w", err)
	}
	if !all.IsSet(clientCPU) || all.Count() < 2 {
		return errors.New("client and server cannot be kept apart: that takes two CPUs, with the first among them")
	}
	client.Set(clientCPU)
	all.Clear(clientCPU)
	if err := runOn(os.Getpid(), &client); err != nil {
		return err
	}
	for _, pid := range servers {
		if err := runOn(pid, &all); err != nil {
			return err
		}
	}
	return nil
}

// runOn has all threads of a process run on some CPUs only, and those that they
// start.
func runOn(pid int, cpus *unix.CPUSet) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("finding the threads of process %d: %w", pid, err)
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("a thread of process %d: %w", pid, err)
		}
		if err := unix.SchedSetaffinity(tid, cpus); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choosing the CPUs of process %d: %w", pid, err)
		}
	}
	return nil
}
