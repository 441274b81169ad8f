package steer

// The object file and its Go bindings are made with clang 14 and committed, so
// that building Fairlead needs no C compiler. bpf/SHA256SUMS ties the object to
// its source, and a test compares the two.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type local -type denial -type settings -type memo_entry -type memo_route -type memo_count -type admission object bpf/steer.c -- -O2 -g -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu
//go:generate sh -c "sha256sum bpf/*.h bpf/steer.c object_bpfel.o > bpf/SHA256SUMS"
