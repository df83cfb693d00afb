// Reads poses from streamkp's WebSocket. Plain C#: no package is needed, in Unity or elsewhere.
//
//   streamkp run mocap --source 0
using System;
using System.Collections.Generic;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Streamkp
{
    /// <summary>A client of /ws in msgpack. Maps come as Dictionary, lists as List of object, points as float[].</summary>
    public sealed class Reader : IDisposable
    {
        readonly Uri _uri;
        readonly CancellationTokenSource _stop = new CancellationTokenSource();
        readonly object _lock = new object();
        Dictionary<string, object> _newest;

        /// <param name="uri">ws://127.0.0.1:8765/ws?format=msgpack, with ?stream=ID for one stream of several.</param>
        public Reader(string uri) { _uri = new Uri(uri); }

        /// <summary>Read until it is disposed of, and connect again a second after a connection is lost.</summary>
        public async Task Run()
        {
            while (!_stop.IsCancellationRequested)
            {
                try { await ReadOnce(); }
                catch (Exception error) when (error is WebSocketException || error is IOException
                                              || error is OperationCanceledException) { }
                try { await Task.Delay(1000, _stop.Token); }
                catch (OperationCanceledException) { }
            }
        }

        /// <summary>The newest frame, once; null where none came since. Of two frames the older one is left out.</summary>
        public Dictionary<string, object> TakeNewest()
        {
            lock (_lock) { var frame = _newest; _newest = null; return frame; }
        }

        public void Dispose() { _stop.Cancel(); }

        async Task ReadOnce()
        {
            using (var socket = new ClientWebSocket())
            {
                await socket.ConnectAsync(_uri, _stop.Token);
                var buffer = new byte[65536];
                var whole = new MemoryStream();
                while (socket.State == WebSocketState.Open)
                {
                    var part = await socket.ReceiveAsync(new ArraySegment<byte>(buffer), _stop.Token);
                    if (part.MessageType == WebSocketMessageType.Close) return;
                    whole.Write(buffer, 0, part.Count);
                    if (!part.EndOfMessage) continue;
                    var message = new Unpacker(whole.ToArray()).Read() as Dictionary<string, object>;
                    whole.SetLength(0);
                    // What is no frame says so by its type: the state of a stream, lost messages.
                    if (message == null || message.ContainsKey("type")) continue;
                    lock (_lock) { _newest = message; }
                }
            }
        }
    }

    /// <summary>As much of msgpack as streamkp sends.</summary>
    public sealed class Unpacker
    {
        readonly byte[] _data;
        int _at;

        public Unpacker(byte[] data) { _data = data; }

        public object Read()
        {
            int code = _data[_at++];
            if (code <= 0x7f) return (long)code;
            if (code <= 0x8f) return Map(code & 0x0f);
            if (code <= 0x9f) return List(code & 0x0f);
            if (code <= 0xbf) return Text(code & 0x1f);
            switch (code)
            {
                case 0xc0: return null;
                case 0xc2: return false;
                case 0xc3: return true;
                case 0xc4: return Bytes((int)Unsigned(1));
                case 0xc5: return Bytes((int)Unsigned(2));
                case 0xc6: return Bytes((int)Unsigned(4));
                case 0xca: return (double)BitConverter.ToSingle(Turned(4), 0);
                case 0xcb: return BitConverter.ToDouble(Turned(8), 0);
                case 0xcc: return (long)Unsigned(1);
                case 0xcd: return (long)Unsigned(2);
                case 0xce: return (long)Unsigned(4);
                case 0xcf: return (long)Unsigned(8);
                case 0xd0: return (long)(sbyte)Unsigned(1);
                case 0xd1: return (long)(short)Unsigned(2);
                case 0xd2: return (long)(int)Unsigned(4);
                case 0xd3: return (long)Unsigned(8);
                case 0xd9: return Text((int)Unsigned(1));
                case 0xda: return Text((int)Unsigned(2));
                case 0xdb: return Text((int)Unsigned(4));
                case 0xdc: return List((int)Unsigned(2));
                case 0xdd: return List((int)Unsigned(4));
                case 0xde: return Map((int)Unsigned(2));
                case 0xdf: return Map((int)Unsigned(4));
            }
            if (code >= 0xe0) return (long)(sbyte)code;
            throw new InvalidDataException("msgpack code " + code);
        }

        object Map(int count)
        {
            var map = new Dictionary<string, object>();
            for (int i = 0; i < count; i++) { var key = (string)Read(); map[key] = Read(); }
            object data, shape;
            // Arrays come as their shape and little-endian float32.
            if (map.Count == 2 && map.TryGetValue("data", out data) && map.TryGetValue("shape", out shape)
                && data is byte[])
            {
                var values = new float[((byte[])data).Length / 4];
                Buffer.BlockCopy((byte[])data, 0, values, 0, 4 * values.Length);
                return values;
            }
            return map;
        }

        List<object> List(int count)
        {
            var list = new List<object>();
            for (int i = 0; i < count; i++) list.Add(Read());
            return list;
        }

        string Text(int count)
        {
            var text = Encoding.UTF8.GetString(_data, _at, count);
            _at += count;
            return text;
        }

        byte[] Bytes(int count)
        {
            var bytes = new byte[count];
            Buffer.BlockCopy(_data, _at, bytes, 0, count);
            _at += count;
            return bytes;
        }

        ulong Unsigned(int count)
        {
            ulong value = 0;
            for (int i = 0; i < count; i++) value = value << 8 | _data[_at++];
            return value;
        }

        byte[] Turned(int count)
        {
            var bytes = Bytes(count);
            if (BitConverter.IsLittleEndian) Array.Reverse(bytes);
            return bytes;
        }
    }
}
