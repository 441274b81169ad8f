package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed c/forward.c
var cSource []byte

// cForwarder is what all others are measured against.
var cForwarder = contestant{
	name: "c-libxdp",
	what: "AF_XDP forwarder in C on libxdp: frames pass untouched",
	refuse: func(k *kit, _ Case) string {
		_, err := k.cBinary()
		if err != nil {
			return err.Error()
		}
		return ""
	},
	start: func(ctx context.Context, k *kit, w *world, _ Case) (*forwarder, error) {
		binary, err := k.cBinary()
		if err != nil {
			return nil, err
		}
		return startOnSockets(ctx, w, exec.Command(binary, w.in.Name, w.out.Name,
			strconv.Itoa(k.cpus.worker), strconv.Itoa(ringSize), strconv.Itoa(frameCount)))
	},
}

// compileC compiles the C forwarder into dir.
func compileC(dir string) (string, error) {
	compiler := ""
	for _, name := range []string{"gcc", "clang", "clang-14"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" {
		return "", fmt.Errorf("no C compiler (gcc or clang)")
	}
	source, binary := filepath.Join(dir, "forward.c"), filepath.Join(dir, "forward")
	if err := os.WriteFile(source, cSource, 0o644); err != nil {
		return "", err
	}
	out, err := exec.Command(compiler, "-O3", "-march=native", "-Wall", "-Wextra", "-Werror",
		"-o", binary, source, "-lxdp", "-lbpf").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("the C forwarder does not compile (libxdp-dev and libbpf-dev are needed): %w: %s", err, out)
	}
	return binary, nil
}
