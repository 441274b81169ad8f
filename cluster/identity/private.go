package identity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// errTooLong says that a file is longer than such a file can be.
var errTooLong = errors.New("too long")

// readPrivate reads a small file that only its owner may read.
func readPrivate(file string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for its writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", file)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: others than its owner may use it (mode %04o): chmod 600 it, and consider whether it is still a secret", file, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", file, errTooLong, limit)
	}
	return data, nil
}
