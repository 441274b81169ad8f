package desired

// failing is a file system that fails at everything that writes while err is
// not nil.
type failing struct {
	fileSystem
	err error
}

func (f *failing) fail(do func() error) error {
	if f.err != nil {
		return f.err
	}
	return do()
}

func (f *failing) Write(name string, data []byte) error {
	return f.fail(func() error { return f.fileSystem.Write(name, data) })
}

func (f *failing) Rename(from, to string) error {
	return f.fail(func() error { return f.fileSystem.Rename(from, to) })
}

func (f *failing) SyncDir(dir string) error {
	return f.fail(func() error { return f.fileSystem.SyncDir(dir) })
}
