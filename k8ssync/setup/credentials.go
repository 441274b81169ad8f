package setup

import (
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// Credentials says what keeps a node from even asking the API server: files that
// cannot be read, or settings that name no server. Nothing is sent.
func Credentials(s kube.Settings) error {
	connection, err := watch.Connect(watch.Config{Settings: s})
	if err != nil {
		return err
	}
	connection.Close()
	return nil
}
