package codec_test

import (
	"fmt"

	"github.com/nanopack/pulse/journal/codec"
)

// An event is written in one form, and read back with a decoder that is used for many events.
func Example() {
	event := codec.Event{Relay: "web1", Time: 1795416970017829163, Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"guy"}, Stats: []codec.Stat{{ID: "used", Value: 0.25}}},
	}}
	data, err := codec.EncodeEvent(nil, &event)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(codec.ReadingsSubject + codec.Token(event.Relay))
	fmt.Println(string(data))

	var decoder codec.Decoder
	var again codec.Event
	if err := decoder.DecodeEvent(data, &again); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.Relay, again.Readings())
	// Output: pulse.readings.web1
	// {"v":2,"relay":"web1","time":1795416970017829163,"stats":[[["guy"],{"cpu":{"used":0.25}}]]}
	// web1 1
}
