package runtime

import (
	"slices"
	"testing"
)

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name            string
		drop, add, want []string
	}{
		{"nothing is said", nil, nil, []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"}},
		{"all dropped", []string{"ALL"}, nil, nil},
		{"all dropped but some", []string{"ALL"}, []string{"BPF", "NET_ADMIN"}, []string{"NET_ADMIN", "BPF"}},
		{"dropped and added", []string{"KILL"}, []string{"KILL"}, []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"}},
		{"all added", nil, []string{"ALL"}, capabilities},
	} {
		got, err := Capabilities(c.drop, c.add)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	if _, err := Capabilities(nil, []string{"NET_ADMN"}); err == nil || err.Error() != `there is no capability "NET_ADMN"` {
		t.Errorf("one that there is not: %v", err)
	}
}
