package decap

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ipv4Conf holds the IPv4 settings of interfaces. It shows those of the network
// namespace of the thread that opens a file.
const ipv4Conf = "/proc/sys/net/ipv4/conf"

func readSysctl(conf, name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(ipv4Conf, conf, name))
	if err != nil {
		return 0, fmt.Errorf("read setting: %w", err)
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read setting %s of %s: %w", name, conf, err)
	}
	return value, nil
}

func writeSysctl(conf, name string, value int) error {
	if err := os.WriteFile(filepath.Join(ipv4Conf, conf, name), []byte(strconv.Itoa(value)), 0); err != nil {
		return fmt.Errorf("write setting: %w", err)
	}
	return nil
}
