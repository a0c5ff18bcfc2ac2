// The relay that Vestibule is measured beside: Node's socket.io in one process, in its fastest
// ordinary shape (WebSocket only, no compression, native masking by bufferutil).
//
// `join ROOM` is acknowledged, `publish {room, data}` goes to every member of the room as `event`,
// `echo X` is acknowledged with X.

import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
});

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack({ ok: true });
  });
  socket.on("publish", (event) => io.to(event.room).emit("event", event));
  socket.on("echo", (content, ack) => ack(content));
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => {
  const { address, port } = http.address();
  console.log(`listening ${address}:${port}`);
});
